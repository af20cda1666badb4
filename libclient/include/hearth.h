/* SPDX-License-Identifier: MIT */
/**
 * DOC: hearth.h - the client library of Hearth
 *
 * A struct hearth is a connection: a session with the daemon over shared
 * memory. A struct hearth_model is an opened model: its vocabulary and
 * template, usable without the daemon's help. Requests are numbered; many may
 * be in flight at once, and each is in one of three states: running, finished,
 * released.
 *
 * A daemon that dies is no end: its session's memory stays readable, the
 * library connects to the next one by itself, opens its models again and
 * submits what was not finished, with the tokens that are there already, so
 * that the caller sees a pause and then the rest of the same answer. This
 * happens inside the calls that wait or are made in the meantime (there is no
 * thread), and struct hearth_options says how long and how often.
 *
 * Errors: functions return 0 (or a count) or a negative errno, never set
 * errno, never print, never exit. hearth_error() gives the text of the last
 * failure on that connection: what was wrong and where, with both numbers when
 * a limit was hit.
 *
 * Threads: one connection belongs to one thread at a time. Different
 * connections are independent. A struct hearth_model may be used by any number
 * of threads once opened, also while a connection opens it again.
 *
 * Extensible structures begin with their own size; HEARTH_INIT() sets it and
 * zeroes the rest, and zero always means "the default".
 */
#ifndef HEARTH_H
#define HEARTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HEARTH_VERSION_MAJOR 0
#define HEARTH_VERSION_MINOR 1
#define HEARTH_VERSION_PATCH 0

#if defined(__GNUC__)
#define HEARTH_API __attribute__((visibility("default")))
#else
#define HEARTH_API
#endif

#ifdef __cplusplus
#define HEARTH_INIT(var) \
	var = {};        \
	(var).size = sizeof(var)
#else
#define HEARTH_INIT(var) var = { .size = sizeof(var) }
#endif

struct hearth;
struct hearth_model;

/* ------------------------------------------------------------ connection */

/**
 * struct hearth_options - how to connect
 * @size:     sizeof(struct hearth_options)
 * @socket:   path of the daemon's socket; NULL: $HEARTH_SOCKET, else
 *            $XDG_RUNTIME_DIR/hearth/hearth.sock if it answers, else
 *            /run/hearth/hearth.sock
 * @n_slots:  requests in flight at most
 * @in_bytes: shared memory for requests going in
 * @out_bytes: shared memory for what comes back
 * @log:      called when the connection is lost and when it is there again;
 *            NULL for none
 * @log_arg:  passed to @log
 * @reconnect_ms: how long after a daemon's death to try to reach another on
 *            the same socket, with growing pauses; 0 is 10000. Time that it
 *            then takes to load models does not count while it says that it
 *            makes progress
 * @max_resubmit: deaths that one request may survive: with the next it ends
 *            with -ECONNRESET; 0 is 1, UINT32_MAX any number
 * @no_reconnect: a daemon's death ends everything with -ENOTCONN at once
 */
struct hearth_options {
	size_t size;
	const char *socket;
	uint32_t n_slots;
	uint64_t in_bytes;
	uint64_t out_bytes;
	void (*log)(void *arg, const char *text);
	void *log_arg;
	uint32_t reconnect_ms;
	uint32_t max_resubmit;
	bool no_reconnect;
};

/**
 * hearth_open() - connect to the daemon
 * @out: new connection, the caller's to close; NULL on failure
 * @opt: NULL for all defaults; copied
 *
 * A daemon that hangs up during the handshake may be restarting: unless
 * no_reconnect is set, the next one is tried for up to two seconds.
 *
 * Return: 0; -ENOENT or -ECONNREFUSED when no daemon runs; -EACCES;
 * -EPROTO when the daemon speaks another version; or another -errno, and a
 * sentence in hearth_error(NULL).
 */
HEARTH_API int hearth_open(struct hearth **out,
			   const struct hearth_options *opt);

/**
 * hearth_close() - end the session and cancel what runs
 * @h: connection; *h is NULL afterwards, and may be before
 *
 * Whatever pointed into the session's memory is invalid; opened models are
 * the caller's still.
 */
HEARTH_API void hearth_close(struct hearth **h);

/**
 * hearth_error() - what went wrong last
 * @h: connection; NULL: the last hearth_open() of this thread
 *
 * Return: a sentence, never NULL, valid until the next call on @h.
 */
HEARTH_API const char *hearth_error(const struct hearth *h);

/**
 * hearth_strerror() - what an error value means here
 * @err: a negative errno
 *
 * Return: a text, valid until the next call in this thread.
 */
HEARTH_API const char *hearth_strerror(int err);

/**
 * hearth_fd() - an fd that polls readable when hearth_next() has something
 * @h: connection, which keeps the fd: do not read or close it
 *
 * For event loops: wait for POLLIN, then call hearth_next() with timeout 0
 * until it returns something else than 0. Made by the first call and the same
 * until hearth_close(), whatever daemon is behind it; it is also readable when
 * the library has to go on with coming back to a daemon, and then hearth_next()
 * may have no event.
 *
 * Return: the fd, or -errno.
 */
HEARTH_API int hearth_fd(struct hearth *h);

/**
 * hearth_epoch() - the number of the session, which no other has
 * @h: connection
 *
 * It is another one after the library has connected again: the daemon is
 * another process, and the ids of hearth_model_list() are those of the new one.
 *
 * Return: the number.
 */
HEARTH_API uint64_t hearth_epoch(const struct hearth *h);

/**
 * hearth_version() - version of this library
 *
 * Return: "0.1.0", static.
 */
HEARTH_API const char *hearth_version(void);

/**
 * hearth_ping() - one empty round trip through the rings, to the engine
 * @h:       connection
 * @spin_ns: how long to poll before sleeping; 0 sleeps at once
 *
 * Return: 0; -EAGAIN when the queue is full of submissions that the engine has
 * not read; -ETIMEDOUT when it does not answer in a minute; -ENOTCONN; or
 * another -errno.
 */
HEARTH_API int hearth_ping(struct hearth *h, uint64_t spin_ns);

/**
 * hearth_limits() - the daemon's options and limits
 * @h:   connection
 * @buf: receives lines "name value unit", or "name value" without a unit
 * @n:   bytes of @buf; what does not fit is cut off
 *
 * Return: bytes written without the NUL, or -errno.
 */
HEARTH_API int hearth_limits(struct hearth *h, char *buf, size_t n);

/**
 * hearth_stats() - the daemon's counters
 * @h:   connection
 * @buf: receives lines "name value"
 * @n:   bytes of @buf; what does not fit is cut off
 *
 * Return: bytes written without the NUL, or -errno.
 */
HEARTH_API int hearth_stats(struct hearth *h, char *buf, size_t n);

/* ---------------------------------------------------------------- models */

enum hearth_model_state {
	HEARTH_MODEL_PARSING,
	HEARTH_MODEL_LOADING,
	HEARTH_MODEL_READY,
	HEARTH_MODEL_UNLOADING,
	HEARTH_MODEL_FAILED,
	HEARTH_MODEL_RESIDENT, /* in memory, not in the engine: opens at once */
};

/**
 * struct hearth_model_info - one model in memory, as `hearth ps` shows it
 * @size:         sizeof(struct hearth_model_info)
 * @id:           the daemon's: another daemon gives another one
 * @state:        enum hearth_model_state
 * @uid:          who loaded it first
 * @n_ctx:        context it was loaded with; 0 while it is not in the engine
 * @n_ctx_train:  context it was made for
 * @n_sessions:   connections that have it open
 * @n_active:     requests that run
 * @n_vocab:      tokens it knows; 0 in lists
 * @n_embd:       width of its hidden state; 0 in lists
 * @n_params:     parameters; 0 in lists
 * @file_bytes:   of its files
 * @weight_bytes: of its weights in memory
 * @kv_bytes:     of its KV cache
 * @kv_used:      of them in use
 * @load_ns:      how long loading or attaching took last
 * @idle_ns:      since its last request; 0 while one runs
 * @name:         to open it by
 * @arch:         "llama"; empty until it was in the engine
 * @quant:        "Q4_K_M", likewise
 * @backend:      what computes, likewise
 * @digest:       SHA-256 that names its files' content; zeros while it is not
 *                known
 */
struct hearth_model_info {
	size_t size;
	uint32_t id;
	uint32_t state;
	uint32_t uid;
	uint32_t n_ctx;
	uint32_t n_ctx_train;
	uint32_t n_sessions;
	uint32_t n_active;
	uint32_t n_vocab;
	uint32_t n_embd;
	uint64_t n_params;
	uint64_t file_bytes;
	uint64_t weight_bytes;
	uint64_t kv_bytes;
	uint64_t kv_used;
	uint64_t load_ns;
	uint64_t idle_ns;
	char name[128];
	char arch[32];
	char quant[32];
	char backend[32];
	uint8_t digest[32];
};

/**
 * struct hearth_load_options - how to load
 * @size:     sizeof(struct hearth_load_options)
 * @n_ctx:    context wanted; 0 is the model's own, bounded by memory
 * @resv:     0
 * @kv_bytes: memory for the KV cache; 0 is the daemon's choice
 * @name:     name to list it under; NULL: made from the file's name
 * @progress: called while loading with bytes done and in all; returning
 *            non-zero gives up waiting (-ECANCELED)
 * @progress_arg: passed to @progress
 */
struct hearth_load_options {
	size_t size;
	uint32_t n_ctx;
	uint32_t resv;
	uint64_t kv_bytes;
	const char *name;
	int (*progress)(void *arg, uint64_t done, uint64_t total);
	void *progress_arg;
};

/**
 * hearth_model_load() - open a model, loading it if it is not resident
 * @h:    connection
 * @out:  the model, the caller's to close; NULL on failure
 * @name: a path, or the name of a file in a model directory with or without
 *        ".gguf" (see hearth_model_find()), or the name of a resident model
 * @opt:  NULL for all defaults
 *
 * A resident model of that very name is opened as it is, whatever @opt says.
 * Files are opened here, with the caller's rights, and used in place; they
 * stay open as long as the handle, so that another daemon can be given the
 * same ones. Of a split model any part may be named.
 *
 * Return: 0; -ENOENT; -EACCES; -EBADMSG when it is no valid model; -ENOMEM;
 * -EDQUOT over a limit of the daemon's; -ECANCELED when @opt's progress said
 * so; -ENOTCONN; or another -errno.
 */
HEARTH_API int hearth_model_load(struct hearth *h, struct hearth_model **out,
				 const char *name,
				 const struct hearth_load_options *opt);

/**
 * hearth_model_open() - open a resident model by id
 * @h:   connection
 * @out: the model, the caller's to close; NULL on failure
 * @id:  of hearth_model_list()
 *
 * After a restart of the daemon a model that was opened by id alone is found
 * again if the new daemon has the same weights in memory.
 *
 * Return: 0; -ENOENT; -EACCES; -ECONNRESET when the daemon was restarted, so
 * that the id means nothing any more; or another -errno.
 */
HEARTH_API int hearth_model_open(struct hearth *h, struct hearth_model **out,
				 uint32_t id);

/**
 * hearth_model_open_file() - read a model file's vocabulary and metadata
 * @out:  the model, the caller's to close; NULL on failure
 * @name: a path, or a name for hearth_model_find()
 * @why:  receives what is wrong; may be NULL when @n is 0
 * @n:    bytes of @why
 *
 * Nothing is loaded and no daemon is asked: a sandboxed child process parses.
 *
 * Return: 0; -ENOENT: no such file, or no hearthd to parse it; -EBADMSG;
 * -ETIMEDOUT; or another -errno.
 */
HEARTH_API int hearth_model_open_file(struct hearth_model **out,
				      const char *name, char *why, size_t n);

/**
 * hearth_model_close() - drop the handle
 * @m: model; *m is NULL afterwards, and may be before
 *
 * The daemon keeps the model in memory. Requests that run on it go on.
 */
HEARTH_API void hearth_model_close(struct hearth_model **m);

#define HEARTH_EVICT 1u

/**
 * hearth_model_unload() - ask the daemon to take a model out of the engine
 * @h:     connection
 * @id:    of hearth_model_list()
 * @flags: 0: its weights stay in memory (HEARTH_MODEL_RESIDENT), so that
 *         opening it again reads no file; HEARTH_EVICT: they go, too
 *
 * Return: 0; -ENOENT; -EACCES or -EPERM when it is another user's; -EINVAL;
 * -ENOTCONN; or another -errno.
 */
HEARTH_API int hearth_model_unload(struct hearth *h, uint32_t id,
				   uint32_t flags);

/**
 * hearth_model_list() - the models in memory
 * @h:    connection
 * @info: receives the first @n; the caller sets each element's size
 * @n:    elements of @info
 *
 * Return: how many there are (may be more than @n), or -errno.
 */
HEARTH_API int hearth_model_list(struct hearth *h,
				 struct hearth_model_info *info, size_t n);

/**
 * hearth_model_info() - what is known about an opened model
 * @m:    model
 * @info: receives it; the caller sets its size
 *
 * Return: 0, or -EINVAL without a size.
 */
HEARTH_API int hearth_model_info(const struct hearth_model *m,
				 struct hearth_model_info *info);

/**
 * hearth_model_meta() - a metadata value of the file as text
 * @m:   model
 * @key: "general.architecture"
 * @p:   receives the text, valid as long as @m; not NUL-terminated
 * @n:   receives its bytes
 *
 * Return: is there such a key?
 */
HEARTH_API bool hearth_model_meta(const struct hearth_model *m, const char *key,
				  const char **p, size_t *n);

/**
 * hearth_model_meta_at() - a key and its value, by number
 * @m:     model
 * @i:     0 is the first
 * @key:   receives the key, valid as long as @m; not NUL-terminated
 * @key_n: receives its bytes
 * @val:   receives the value, likewise
 * @val_n: receives its bytes
 *
 * Return: false past the end.
 */
HEARTH_API bool hearth_model_meta_at(const struct hearth_model *m, size_t i,
				     const char **key, size_t *key_n,
				     const char **val, size_t *val_n);

/**
 * hearth_model_dirs() - directories searched for models, in order
 * @buf: receives "dir:dir..."
 * @n:   bytes of @buf
 *
 * $HEARTH_MODELS (colon separated) if set; else $XDG_DATA_HOME/hearth/models
 * (~/.local/share/hearth/models) and /var/lib/hearth/models. The first is
 * where `hearth pull` writes.
 *
 * Return: bytes written without the NUL, or -ENOSPC.
 */
HEARTH_API int hearth_model_dirs(char *buf, size_t n);

/**
 * hearth_model_find() - the model file that a name means
 * @name: a path, or the name of a file in a model directory, in any case, with
 *        or without ".gguf", and shortened as long as only one file fits
 * @buf:  receives its path, or the nearest names, comma separated
 * @n:    bytes of @buf
 *
 * Return: 0; -ENOENT: there is none, or more than one; or another -errno.
 */
HEARTH_API int hearth_model_find(const char *name, char *buf, size_t n);

/* ------------------------------------------------------------------ text */

#define HEARTH_TOK_SPECIAL 1u /* recognise control tokens in the text */
#define HEARTH_TOK_NO_BOS  2u /* do not add BOS/EOS even if the model wants */

/**
 * hearth_tokenize() - text to tokens
 * @m:     model
 * @text:  any bytes: what is not UTF-8 becomes byte tokens, and
 *         hearth_detokenize() gives the same bytes back
 * @n:     bytes of @text
 * @out:   receives up to @max tokens; may be NULL when @max is 0
 * @max:   elements of @out
 * @flags: HEARTH_TOK_*
 *
 * Return: the number of tokens (may be more than @max), or -errno: -ENOMEM,
 * -ENODATA or -ENOTSUP for a model without a vocabulary that is known.
 */
HEARTH_API int64_t hearth_tokenize(const struct hearth_model *m,
				   const char *text, size_t n, uint32_t *out,
				   size_t max, uint32_t flags);

/**
 * hearth_detokenize() - tokens to bytes
 * @m:       model
 * @tok:     tokens
 * @n:       elements of @tok
 * @out:     receives up to @max bytes; may be NULL when @max is 0
 * @max:     bytes of @out
 * @special: also write the text of control tokens
 *
 * Return: bytes needed (may be more than @max), or -EINVAL for what is no
 * token of @m.
 */
HEARTH_API int64_t hearth_detokenize(const struct hearth_model *m,
				     const uint32_t *tok, size_t n, char *out,
				     size_t max, bool special);

/**
 * struct hearth_stream - streaming detokenizer: never emits half a character
 * @held:    bytes of an unfinished character
 * @n_held:  how many
 * @started: was there a token?
 * @resv:    0
 *
 * Owned by the caller, zero-initialised; holds back the bytes of an unfinished
 * UTF-8 sequence until the next token completes it.
 */
struct hearth_stream {
	uint8_t held[8];
	uint32_t n_held;
	uint32_t started;
	uint64_t resv[2];
};

/**
 * hearth_stream_token() - the bytes of the next token
 * @m:   model
 * @s:   the stream's state, changed
 * @tok: token; UINT32_MAX flushes
 * @out: receives whole characters
 * @max: bytes of @out
 *
 * Return: bytes written to @out, -ENOSPC if @max is too small (nothing is
 * consumed), or -EINVAL.
 */
HEARTH_API int hearth_stream_token(const struct hearth_model *m,
				   struct hearth_stream *s, uint32_t tok,
				   char *out, size_t max);

/**
 * hearth_token_is_eog() - does this token end a turn?
 * @m:   model
 * @tok: token
 *
 * Return: true if it does.
 */
HEARTH_API bool hearth_token_is_eog(const struct hearth_model *m, uint32_t tok);

struct hearth_message {
	const char *role;    /* "system", "user", "assistant", "tool", ... */
	const char *content; /* UTF-8 */
};

/**
 * struct hearth_template_options - how to render a chat
 * @size:     sizeof(struct hearth_template_options)
 * @tmpl:     template text; NULL is the model's own (or a plain one)
 * @no_generation_prompt: do not end with the start of the assistant's turn
 * @vars_json: JSON object with more variables for the template, or NULL
 *             ("{\"enable_thinking\": false}"); "messages" and "tools" there
 *             take the place of what the arguments say
 */
struct hearth_template_options {
	size_t size;
	const char *tmpl;
	bool no_generation_prompt;
	const char *vars_json;
};

/**
 * hearth_apply_template() - render messages with the model's chat template
 * @m:     model
 * @msg:   messages, oldest first
 * @n_msg: elements of @msg
 * @opt:   NULL for all defaults
 * @out:   receives up to @max bytes; may be NULL when @max is 0
 * @max:   bytes of @out
 * @why:   receives the template's line and what is wrong there; may be NULL
 * @why_n: bytes of @why
 *
 * Return: bytes needed (may be more than @max), or -errno.
 */
HEARTH_API int64_t hearth_apply_template(
	const struct hearth_model *m, const struct hearth_message *msg,
	size_t n_msg, const struct hearth_template_options *opt, char *out,
	size_t max, char *why, size_t why_n);

/* -------------------------------------------------------------- requests */

struct hearth_bias {
	uint32_t token;
	float bias;
};

/**
 * struct hearth_request - what to run
 * @size:        sizeof(struct hearth_request)
 * @model:       the model
 * @prompt:      tokens; copied before hearth_submit() returns
 * @n_prompt:    elements of @prompt
 * @max_tokens:  0: as many as the context takes; else at most this many
 * @no_generate: generate nothing (embeddings or logits only)
 * @greedy:      take the most probable token, ignore sampling parameters
 * @ignore_eos:  go on after a token that ends a turn
 * @embed_last:  the final hidden state of the last prompt token is wanted
 * @embed_mean:  the final hidden state averaged over the prompt is wanted
 * @want_logprobs: report the log-probability of each token
 * @temperature: 0..100; 0 takes the most probable token, like @greedy
 * @top_k:       0 is off
 * @top_p:       0 is off
 * @min_p:       0 to less than 1; 0 is off
 * @repeat_penalty: 0 or 1 is off
 * @presence_penalty:  -2..2; 0 is off
 * @frequency_penalty: -2..2; 0 is off
 * @penalty_last: tokens penalties look at; 0 is 64
 * @seed:        0 is drawn at random
 * @bias:        copied
 * @n_bias:      elements of @bias
 * @stop_tokens: copied; end the answer and are not part of it
 * @n_stop_tokens: elements of @stop_tokens
 * @stop_text:   texts that end the answer; matched here, across tokens, and
 *               cut off the answer (the engine never sees them); copied
 * @n_stop_text: elements of @stop_text
 * @n_top_logprobs: alternatives to report with each token, at most 20
 * @logits_pos:  ascending prompt positions whose logits are wanted; copied
 * @n_logits_pos: elements of @logits_pos
 * @key:         free for the caller's use; goes with the request to any daemon
 */
struct hearth_request {
	size_t size;
	const struct hearth_model *model;
	const uint32_t *prompt;
	size_t n_prompt;
	uint32_t max_tokens;
	bool no_generate;
	bool greedy;
	bool ignore_eos;
	bool embed_last;
	bool embed_mean;
	bool want_logprobs;
	float temperature;
	uint32_t top_k;
	float top_p;
	float min_p;
	float repeat_penalty;
	float presence_penalty;
	float frequency_penalty;
	uint32_t penalty_last;
	uint64_t seed;
	const struct hearth_bias *bias;
	size_t n_bias;
	const uint32_t *stop_tokens;
	size_t n_stop_tokens;
	const char *const *stop_text;
	size_t n_stop_text;
	uint32_t n_top_logprobs;
	const uint32_t *logits_pos;
	size_t n_logits_pos;
	uint64_t key;
};

/**
 * hearth_submit() - start a request; does not wait
 * @h:  connection
 * @rq: what to run; it and its arrays are copied, its model must stay open
 *      until this returns
 * @id: its number, never 0, unique on this connection
 *
 * Return: 0; -EAGAIN when all slots are in use or the engine has not yet read
 * what was sent before; -E2BIG when prompt and max_tokens do not fit the
 * context, or the request the session's memory (the text has both numbers);
 * -EINVAL; -ECONNRESET when the daemon was restarted and could not open the
 * model again; or -ENOTCONN when there is no daemon. A refusal that only the
 * engine can see comes as an event. While the library comes back to a daemon
 * requests are taken, and sent when it is there.
 */
HEARTH_API int hearth_submit(struct hearth *h, const struct hearth_request *rq,
			     uint64_t *id);

enum hearth_event_type {
	HEARTH_EV_PREFILL = 1, /* n_prefill of n_prompt tokens are done */
	HEARTH_EV_TOKENS,      /* new tokens: first, n_tokens and their text */
	HEARTH_EV_DONE,	       /* finished: finish, and all results are there */
	HEARTH_EV_ERROR,       /* failed or refused: err and text */
};

enum hearth_finish {
	HEARTH_FINISH_NONE,
	HEARTH_FINISH_EOS,
	HEARTH_FINISH_STOP, /* a stop token or stop text */
	HEARTH_FINISH_LENGTH,
	HEARTH_FINISH_CANCEL,
	HEARTH_FINISH_ERROR,
	HEARTH_FINISH_DONE, /* nothing was to be generated */
};

struct hearth_top {
	uint32_t token;
	float logprob;
};

/**
 * struct hearth_event - something that happened to a request
 * @size:      sizeof(struct hearth_event)
 * @id:        which request
 * @type:      enum hearth_event_type
 * @finish:    DONE: enum hearth_finish
 * @err:       ERROR: -errno. Of those that a daemon's death brings: -ENOTCONN,
 *             no other came in time; -ECONNRESET, another came and the request
 *             could not go on there (it died again, or lacks the model)
 * @first:     TOKENS: index in the answer of the first new one; read them with
 *             hearth_token_at()
 * @n_tokens:  TOKENS: how many
 * @n_prefill: tokens of the prompt that are done
 * @n_prompt:  of so many
 * @text:      TOKENS: their text, whole characters only; valid until the next
 *             call on this connection. DONE: what was held back
 * @text_n:    bytes of @text
 * @error:     ERROR: one sentence that names what and where
 */
struct hearth_event {
	size_t size;
	uint64_t id;
	uint32_t type;
	uint32_t finish;
	int err;
	uint32_t first;
	uint32_t n_tokens;
	uint32_t n_prefill;
	uint32_t n_prompt;
	const char *text;
	size_t text_n;
	const char *error;
};

/**
 * hearth_next() - wait for the next event of any request
 * @h:          connection
 * @ev:         receives the event; the caller sets its size. What it points to
 *              is valid until the next call on @h
 * @timeout_ms: 0 does not wait, negative waits for ever
 *
 * Return: 0 and *ev; -EAGAIN when there is none in time; -ENOENT when
 * @timeout_ms is negative and no request runs; -ENOTCONN when the daemon is
 * gone and none came in its place in time (every unfinished request first gets
 * its ERROR event): close the connection.
 */
HEARTH_API int hearth_next(struct hearth *h, struct hearth_event *ev,
			   int timeout_ms);

/**
 * hearth_cancel() - stop a request; its DONE event still comes
 * @h:  connection
 * @id: of hearth_submit()
 *
 * Return: 0, also when it has finished; or -ENOENT.
 */
HEARTH_API int hearth_cancel(struct hearth *h, uint64_t id);

/**
 * hearth_release() - forget a request; its results become invalid
 * @h:  connection
 * @id: of hearth_submit(); one that runs is cancelled, without an event
 *
 * Return: 0 or -ENOENT.
 */
HEARTH_API int hearth_release(struct hearth *h, uint64_t id);

/**
 * struct hearth_timings - when things happened to a request
 * @size:       sizeof(struct hearth_timings)
 * @n_prompt:   tokens of the prompt
 * @n_out:      tokens of the answer
 * @n_cached:   tokens of the prompt that needed no computing
 * @n_restart:  engines and daemons that died while it ran
 * @queue_ns:   accepted to first batch
 * @prefill_ns: first batch to first token
 * @decode_ns:  first token to last
 * @first_ns:   submit here to first token seen here
 *
 * The times are those of the daemon that ran it last, but for @first_ns.
 */
struct hearth_timings {
	size_t size;
	uint32_t n_prompt;
	uint32_t n_out;
	uint32_t n_cached;
	uint32_t n_restart;
	uint64_t queue_ns;
	uint64_t prefill_ns;
	uint64_t decode_ns;
	uint64_t first_ns;
};

/**
 * hearth_timings() - of a finished or running request
 * @h:  connection
 * @id: of hearth_submit()
 * @t:  receives them; the caller sets its size
 *
 * Return: 0; -ENOENT: no such request, or not accepted yet; -EINVAL.
 */
HEARTH_API int hearth_timings(struct hearth *h, uint64_t id,
			      struct hearth_timings *t);

/**
 * hearth_token_at() - a token of the answer and its log-probability
 * @h:       connection
 * @id:      of hearth_submit()
 * @i:       0 is the answer's first
 * @token:   receives the token; may be NULL
 * @logprob: receives its log-probability; may be NULL
 *
 * Return: 0; -ENOENT when it is not there (yet); or -EPROTO.
 */
HEARTH_API int hearth_token_at(struct hearth *h, uint64_t id, uint32_t i,
			       uint32_t *token, float *logprob);

/**
 * hearth_top_at() - alternatives at a token of the answer
 * @h:   connection
 * @id:  of hearth_submit()
 * @i:   0 is the answer's first token
 * @top: receives them, in shared memory, valid until hearth_release()
 *
 * Return: how many; -ENOENT: not asked for, or not there (yet); or -EPROTO.
 */
HEARTH_API int hearth_top_at(struct hearth *h, uint64_t id, uint32_t i,
			     const struct hearth_top **top);

/**
 * hearth_logits() - logits of a position of the prompt
 * @h:       connection
 * @id:      of hearth_submit()
 * @i:       number of the position among those asked for
 * @logits:  receives float[n_vocab], in shared memory, valid until
 *           hearth_release()
 * @n_vocab: receives their number; may be NULL
 *
 * Return: 0; -ENOENT: not asked for, or not there (yet); or -EPROTO.
 */
HEARTH_API int hearth_logits(struct hearth *h, uint64_t id, uint32_t i,
			     const float **logits, uint32_t *n_vocab);

/**
 * hearth_embedding() - the embedding asked for
 * @h:      connection
 * @id:     of hearth_submit()
 * @v:      receives float[n_embd], in shared memory, valid until
 *          hearth_release()
 * @n_embd: receives their number; may be NULL
 *
 * Return: 0; -ENOENT: not asked for, or not there (yet); or -EPROTO.
 */
HEARTH_API int hearth_embedding(struct hearth *h, uint64_t id, const float **v,
				uint32_t *n_embd);

/**
 * hearth_generate() - submit, wait, release: the whole answer in one call
 * @h:      connection
 * @prompt: text, sent as it is (tokenized with HEARTH_TOK_SPECIAL)
 * @rq:     parameters; model must be set, prompt is ignored; NULL is not
 *          allowed
 * @on_text: called with each piece of text; non-zero cancels. May be NULL
 * @arg:    passed to @on_text
 * @out:    the answer, malloc()ed, NUL-terminated, to be freed by the caller;
 *          may be NULL
 *
 * Return: 0, also when @on_text cancelled; what hearth_submit() returns; or
 * the error of the request's ERROR event. *out is NULL then.
 */
HEARTH_API int hearth_generate(struct hearth *h, const char *prompt,
			       const struct hearth_request *rq,
			       int (*on_text)(void *arg, const char *p,
					      size_t n),
			       void *arg, char **out);

#ifdef __cplusplus
}
#endif

#endif
