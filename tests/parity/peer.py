# SPDX-License-Identifier: MIT
"""llama.cpp through ctypes: tokens, logits and greedy continuations."""
import ctypes
import os
import sys
import types

import numpy as np

# More than are free make both engines wait for threads that do not run.
THREADS = int(os.environ.get("THREADS", 1))


def bindings():
    """llama-cpp-python's low-level module, without its high-level one.

    LLAMA_CPP_PY may name an unpacked source tree; then LLAMA_CPP_LIB_PATH says
    where a libllama.so of the same version is."""
    tree = os.environ.get("LLAMA_CPP_PY")
    if tree:
        pkg = types.ModuleType("llama_cpp")
        pkg.__path__ = [os.path.join(tree, "llama_cpp")]
        sys.modules["llama_cpp"] = pkg
    import llama_cpp.llama_cpp as ll
    return ll


class Peer:
    def __init__(self, path, n_ctx=512):
        self.ll = ll = bindings()
        ll.llama_backend_init()
        self._quiet = ll.llama_log_callback(lambda *a: None)
        ll.llama_log_set(self._quiet, None)
        mp = ll.llama_model_default_params()
        self.model = ll.llama_model_load_from_file(path.encode(), mp)
        if not self.model:
            raise RuntimeError("llama.cpp refuses " + path)
        self.vocab = ll.llama_model_get_vocab(self.model)
        self.n_vocab = ll.llama_vocab_n_tokens(self.vocab)
        self.threads, self.n_ctx = THREADS, n_ctx

    def context(self):
        ll = self.ll
        cp = ll.llama_context_default_params()
        cp.n_ctx = cp.n_batch = self.n_ctx
        cp.n_ubatch = self.n_ctx
        cp.n_threads = cp.n_threads_batch = self.threads
        ctx = ll.llama_init_from_model(self.model, cp)
        if not ctx:
            raise RuntimeError("llama.cpp has no context")
        return ctx

    def decode(self, ctx, tokens, pos, every):
        """Logits [n, n_vocab] of all tokens, or of the last."""
        ll, n = self.ll, len(tokens)
        b = ll.llama_batch_init(n, 0, 1)
        b.n_tokens = n
        for i, t in enumerate(tokens):
            b.token[i] = int(t)
            b.pos[i] = pos + i
            b.n_seq_id[i] = 1
            b.seq_id[i][0] = 0
            b.logits[i] = every or i == n - 1
        ret = ll.llama_decode(ctx, b)
        ll.llama_batch_free(b)
        if ret:
            raise RuntimeError("llama_decode: %d" % ret)
        rows = range(n) if every else [n - 1]
        return np.stack([np.ctypeslib.as_array(
            ctypes.cast(ll.llama_get_logits_ith(ctx, i),
                        ctypes.POINTER(ctypes.c_float)),
            (self.n_vocab,)).copy() for i in rows])

    def logits(self, tokens):
        ctx = self.context()
        out = self.decode(ctx, tokens, 0, True)
        self.ll.llama_free(ctx)
        return out

    def last_logits(self, tokens):
        ctx = self.context()
        out = self.decode(ctx, tokens, 0, False)[0]
        self.ll.llama_free(ctx)
        return out

    def greedy(self, tokens, n):
        """n times (token, runner-up, margin)."""
        ctx = self.context()
        l = self.decode(ctx, tokens, 0, False)[0]
        pos, out = len(tokens), []
        for _ in range(n):
            t = int(np.argmax(l))
            best = l[t]
            l[t] = -np.inf
            u = int(np.argmax(l))
            out.append((t, u, float(best - l[u])))
            l = self.decode(ctx, [t], pos, False)[0]
            pos += 1
        self.ll.llama_free(ctx)
        return out

    def tokenize(self, text, special=True):
        data = text.encode()
        buf = (self.ll.llama_token * (len(data) + 8))()
        n = self.ll.llama_tokenize(self.vocab, data, len(data), buf, len(buf),
                                   True, special)
        return list(buf[:n])

    def close(self):
        self.ll.llama_model_free(self.model)
