#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""hearth_ctypes.py - libhearth from Python, with nothing but ctypes.

    hearth_ctypes.py MODEL PROMPT     ask a model, stream the answer
    hearth_ctypes.py -v MODEL TEXT    the embedding of a text, its norm

The structures are those of hearth.h; each begins with its own size, so this
file goes on working when later versions add fields at their ends.
"""
import ctypes as C
import sys

lib = C.CDLL("libhearth.so.0")

TOK_SPECIAL = 1
EV_PREFILL, EV_TOKENS, EV_DONE, EV_ERROR = 1, 2, 3, 4


class Sized(C.Structure):
    def __init__(self, **values):
        super().__init__(size=C.sizeof(self), **values)


class Message(C.Structure):
    _fields_ = [("role", C.c_char_p), ("content", C.c_char_p)]


class Request(Sized):
    _fields_ = [
        ("size", C.c_size_t),
        ("model", C.c_void_p),
        ("prompt", C.POINTER(C.c_uint32)),
        ("n_prompt", C.c_size_t),
        ("max_tokens", C.c_uint32),
        ("no_generate", C.c_bool),
        ("greedy", C.c_bool),
        ("ignore_eos", C.c_bool),
        ("embed_last", C.c_bool),
        ("embed_mean", C.c_bool),
        ("want_logprobs", C.c_bool),
        ("temperature", C.c_float),
        ("top_k", C.c_uint32),
        ("top_p", C.c_float),
        ("min_p", C.c_float),
        ("repeat_penalty", C.c_float),
        ("presence_penalty", C.c_float),
        ("frequency_penalty", C.c_float),
        ("penalty_last", C.c_uint32),
        ("seed", C.c_uint64),
        ("bias", C.c_void_p),
        ("n_bias", C.c_size_t),
        ("stop_tokens", C.POINTER(C.c_uint32)),
        ("n_stop_tokens", C.c_size_t),
        ("stop_text", C.POINTER(C.c_char_p)),
        ("n_stop_text", C.c_size_t),
        ("n_top_logprobs", C.c_uint32),
        ("logits_pos", C.POINTER(C.c_uint32)),
        ("n_logits_pos", C.c_size_t),
        ("key", C.c_uint64),
    ]


class Event(Sized):
    _fields_ = [
        ("size", C.c_size_t),
        ("id", C.c_uint64),
        ("type", C.c_uint32),
        ("finish", C.c_uint32),
        ("err", C.c_int),
        ("first", C.c_uint32),
        ("n_tokens", C.c_uint32),
        ("n_prefill", C.c_uint32),
        ("n_prompt", C.c_uint32),
        ("text", C.POINTER(C.c_char)),
        ("text_n", C.c_size_t),
        ("error", C.c_char_p),
    ]


VP, SZ, U32, I64 = C.c_void_p, C.c_size_t, C.c_uint32, C.c_int64
for name, result, args in [
    ("hearth_open", C.c_int, [C.POINTER(VP), VP]),
    ("hearth_close", None, [C.POINTER(VP)]),
    ("hearth_error", C.c_char_p, [VP]),
    ("hearth_model_load", C.c_int, [VP, C.POINTER(VP), C.c_char_p, VP]),
    ("hearth_model_close", None, [C.POINTER(VP)]),
    ("hearth_tokenize", I64, [VP, C.c_char_p, SZ, C.POINTER(U32), SZ, U32]),
    ("hearth_apply_template", I64,
     [VP, C.POINTER(Message), SZ, VP, C.c_char_p, SZ, C.c_char_p, SZ]),
    ("hearth_submit", C.c_int,
     [VP, C.POINTER(Request), C.POINTER(C.c_uint64)]),
    ("hearth_next", C.c_int, [VP, C.POINTER(Event), C.c_int]),
    ("hearth_release", C.c_int, [VP, C.c_uint64]),
    ("hearth_embedding", C.c_int,
     [VP, C.c_uint64, C.POINTER(C.POINTER(C.c_float)), C.POINTER(U32)]),
]:
    fn = getattr(lib, name)
    fn.restype, fn.argtypes = result, args


class HearthError(Exception):
    pass


class Hearth:
    """A connection and one model."""

    def __init__(self, model):
        self.h, self.m = VP(), VP()
        if lib.hearth_open(C.byref(self.h), None):
            raise HearthError(lib.hearth_error(None).decode())
        self.check(lib.hearth_model_load(self.h, C.byref(self.m),
                                         model.encode(), None))

    def check(self, err):
        if err < 0:
            raise HearthError(lib.hearth_error(self.h).decode())
        return err

    def close(self):
        lib.hearth_model_close(C.byref(self.m))
        lib.hearth_close(C.byref(self.h))

    def chat(self, text):
        msg = Message(b"user", text.encode())
        why = C.create_string_buffer(256)
        n = lib.hearth_apply_template(self.m, C.byref(msg), 1, None, None, 0,
                                      why, 256)
        if n < 0:
            raise HearthError(why.value.decode())
        out = C.create_string_buffer(n + 1)
        lib.hearth_apply_template(self.m, C.byref(msg), 1, None, out, n, why,
                                  256)
        return out.raw[:n]

    def tokens(self, text):
        n = self.check(lib.hearth_tokenize(self.m, text, len(text), None, 0,
                                           TOK_SPECIAL))
        tok = (U32 * n)()
        lib.hearth_tokenize(self.m, text, len(text), tok, n, TOK_SPECIAL)
        return tok

    def submit(self, text, **params):
        tok = self.tokens(text)
        rq = Request(model=self.m, prompt=tok, n_prompt=len(tok), **params)
        rid = C.c_uint64()
        self.check(lib.hearth_submit(self.h, C.byref(rq), C.byref(rid)))
        return rid.value

    def events(self):
        """Events until the request that runs alone is finished."""
        ev = Event()
        while True:
            self.check(lib.hearth_next(self.h, C.byref(ev), -1))
            if ev.type == EV_ERROR:
                raise HearthError(ev.error.decode())
            yield ev
            if ev.type == EV_DONE:
                return

    def ask(self, text, **params):
        """Pieces of the answer, as they come."""
        rid = self.submit(self.chat(text), **params)
        for ev in self.events():
            if ev.text_n:
                yield C.string_at(ev.text, ev.text_n).decode(errors="replace")
        lib.hearth_release(self.h, rid)

    def embed(self, text):
        rid = self.submit(text.encode(), no_generate=True, embed_mean=True)
        for _ in self.events():
            pass
        vec, n = C.POINTER(C.c_float)(), U32()
        self.check(lib.hearth_embedding(self.h, rid, C.byref(vec),
                                        C.byref(n)))
        out = vec[:n.value]
        lib.hearth_release(self.h, rid)
        return out


def main():
    args = sys.argv[1:]
    vector = args[:1] == ["-v"]
    args = args[vector:]
    if len(args) != 2:
        sys.exit("usage: hearth_ctypes.py [-v] MODEL TEXT")
    try:
        hearth = Hearth(args[0])
        if vector:
            v = hearth.embed(args[1])
            print(len(v), "dimensions, norm",
                  round(sum(x * x for x in v) ** 0.5, 4))
        else:
            for piece in hearth.ask(args[1], max_tokens=64):
                print(piece, end="", flush=True)
            print()
        hearth.close()
    except HearthError as e:
        sys.exit(f"hearth_ctypes.py: {e}")


if __name__ == "__main__":
    main()
