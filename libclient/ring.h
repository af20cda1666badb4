/* SPDX-License-Identifier: MIT */
/*
 * ring.h - the shared-memory contract between a client and the engine.
 *
 * A session has two memories, both made by the monitor as memfds:
 *
 *   D  is written by the daemon only; the client maps it read-only. It holds
 *      the completion queue, one struct ring_slot per request the client may
 *      have in flight, and an arena with each accepted request and everything
 *      it produced. D is the write-ahead log: a request is in D before it
 *      runs and a token is in D before the client can see it, so an engine
 *      can rebuild every running request from D alone.
 *   C  is written by the client; the daemon reads it once, copies, and
 *      validates the copy. It holds the submission queue and an area where
 *      the client puts request records, prompt tokens and arrays.
 *
 * Offsets and sizes are fixed at the handshake (struct ring_layout); both
 * sides keep them privately and never read them back from shared memory.
 *
 * Queues are single producer, single consumer, of 64-byte entries, a power of
 * two long, with 32-bit free-running indices, each on its own cache line:
 *
 *   produce: fill entry; store_release(tail, t + 1); fence(seq_cst);
 *            if (load_relaxed(peer waiting)) wake the peer
 *   consume: t = load_acquire(tail); t - head > size is a protocol error that
 *            ends the session; copy the entry; store_release(head)
 *   sleep:   store_relaxed(waiting, 1); fence(seq_cst);
 *            if (load_acquire(tail) == head) wait; store_relaxed(waiting, 0)
 *
 * The two fences pair (Dekker): without both a wake-up can be lost, on x86
 * too. The client wakes the engine by writing the session's kick eventfd; the
 * engine wakes the client with FUTEX_WAKE on cq_tail and by writing the
 * session's event eventfd when the client asked for one. Neither side ever
 * reads an eventfd: both poll it edge-triggered or ignore it.
 *
 * Credits: a request occupies the slot that the client names until the client
 * releases it, and a slot has at most one unconsumed progress entry and one
 * final entry in the completion queue, which is therefore never full
 * (cq_entries >= 4 * n_slots). A client that does not read loses nothing:
 * tokens are in the slot's output array, only notifications are coalesced.
 * So that none is missed, a client that took PROGRESS entries publishes
 * cq_head, then fence(seq_cst), then reads n_out. It has at most n_slots NOPs
 * unanswered. While the completion queue has no room for the answers, the
 * daemon takes no submissions; a client that lets more than half the queue
 * stand unread therefore kicks once after it has read it.
 *
 * RELEASE of a request that still runs stops it without a further entry; a
 * PROGRESS entry that is still in the queue is told by its generation.
 * CANCEL or RELEASE with another generation, or of a free slot, does nothing.
 *
 * All integers are little-endian and naturally aligned; reserved fields are
 * zero and refused otherwise. This header includes nothing of Hearth.
 */
#ifndef HEARTH_RING_H
#define HEARTH_RING_H

#include <stdint.h>

#define RING_MAGIC 0x48545248u /* "HRTH" */
#define RING_ABI   1

#define RING_ENTRY_BYTES 64
#define RING_PAGE	 4096

/* Greatest values a handshake may agree on. */
#define RING_MAX_SLOTS	 1024
#define RING_MAX_C_BYTES (256u << 20)
#define RING_MAX_D_BYTES (1u << 30)

/**
 * struct ring_layout - sizes and offsets of C and D, decided by the monitor
 * @sq_entries:  entries in the submission queue (power of two)
 * @cq_entries:  entries in the completion queue (power of two)
 * @n_slots:     requests the client may have in flight or unreleased
 * @c_bytes:     size of C
 * @d_bytes:     size of D
 * @c_sq_off:    submission queue in C
 * @c_data_off:  start of the client's data area in C (it ends at @c_bytes)
 * @d_cq_off:    completion queue in D
 * @d_slot_off:  struct ring_slot[n_slots] in D
 * @d_arena_off: start of the daemon's arena in D (it ends at @d_bytes)
 * @resv:        0
 */
struct ring_layout {
	uint32_t sq_entries;
	uint32_t cq_entries;
	uint32_t n_slots;
	uint32_t resv;
	uint64_t c_bytes;
	uint64_t d_bytes;
	uint64_t c_sq_off;
	uint64_t c_data_off;
	uint64_t d_cq_off;
	uint64_t d_slot_off;
	uint64_t d_arena_off;
};

/* First page of C. One cache line an index. */
struct ring_c {
	_Alignas(64) uint32_t sq_tail;	      /* client: entries submitted */
	_Alignas(64) uint32_t cq_head;	      /* client: entries consumed */
	_Alignas(64) uint32_t client_waiting; /* bit 0: futex, bit 1: eventfd */
};

#define RING_WAIT_FUTEX	  1u
#define RING_WAIT_EVENTFD 2u

/* First page of D. */
struct ring_d {
	uint32_t magic;
	uint32_t abi;
	uint64_t epoch; /* changes when the session was re-established */
	_Alignas(64) uint32_t cq_tail; /* daemon: entries completed; futex */
	_Alignas(64) uint32_t sq_head; /* daemon: entries consumed */
	_Alignas(64) uint32_t daemon_waiting; /* kick me through the eventfd */
	/*
	 * The daemon's own: which entry it is at, cq_tail before that, and
	 * engines that died of themselves while they were at it.
	 */
	_Alignas(64) uint32_t taking_sq;
	uint32_t taking_cq;
	uint32_t taking_strikes;
};

/* What a submission entry asks for. */
enum ring_op {
	RING_OP_NOP,	 /* completes with @arg as result: tests the ring */
	RING_OP_RUN,	 /* run the request whose record is at @off in C */
	RING_OP_CANCEL,	 /* stop slot @slot; it ends with RING_FIN_CANCEL */
	RING_OP_RELEASE, /* slot @slot is free; its output may be overwritten */
	RING_OP_N,
};

/**
 * struct ring_sqe - one submission
 * @op:   enum ring_op
 * @flags: 0
 * @slot: the client's slot
 * @gen:  the client's generation of the slot: CANCEL and RELEASE act only on
 *        the RUN that had the same value, so a late cancel hits nobody else
 * @off:  RUN: offset in C of a struct ring_run, 64-byte aligned
 * @len:  RUN: bytes of the record and all its arrays (they follow it)
 * @arg:  NOP: returned in the completion
 * @resv: 0
 */
struct ring_sqe {
	uint16_t op;
	uint16_t flags;
	uint32_t slot;
	uint32_t gen;
	uint32_t len;
	uint64_t off;
	uint64_t arg;
	uint64_t resv[4];
};

/* Kinds of completion entries. */
enum ring_event {
	RING_EV_NOP,	  /* answer to NOP */
	RING_EV_PROGRESS, /* a slot has new output: see its n_prefill, n_out */
	RING_EV_DONE,	  /* slot is done: read its finish and err */
	RING_EV_REFUSED,  /* RUN not accepted: err, and two numbers */
	RING_EV_MODEL,	  /* model @slot changed state (loaded, unloaded) */
};

/**
 * struct ring_cqe - one completion
 * @event:  enum ring_event
 * @err:    negative errno, or 0
 * @slot:   the slot it is about
 * @gen:    the generation given with RUN
 * @reason: enum ring_refusal, for REFUSED
 * @arg:    NOP: what the entry carried; REFUSED: what was asked for
 * @limit:  REFUSED: what there is
 * @resv:   0
 */
struct ring_cqe {
	uint16_t event;
	uint16_t reason;
	int32_t err;
	uint32_t slot;
	uint32_t gen;
	uint64_t arg;
	uint64_t limit;
	uint64_t resv[4];
};

/* Why a RUN was refused. libhearth has the texts, in the same order. */
enum ring_refusal {
	RING_OK,
	RING_BAD_SLOT,	 /* no such slot, or not free */
	RING_BAD_RECORD, /* offset, length or a reserved field is wrong */
	RING_BAD_MODEL,	 /* no such model, or not usable by this uid */
	RING_BAD_PARAM,	 /* @arg: enum ring_field, @limit: its greatest value */
	RING_BAD_TOKEN,	 /* @arg: its index, @limit: vocabulary size */
	RING_NO_PROMPT,	 /* zero tokens */
	RING_NO_CONTEXT, /* @arg: tokens needed, @limit: context */
	RING_NO_KV,	 /* @arg: KV bytes needed, @limit: bytes there are */
	RING_NO_ARENA,	 /* @arg: bytes of D needed, @limit: bytes there are */
	RING_TOO_MANY,	 /* per-uid budget: @arg: requests, @limit: allowed */
	RING_ENGINE_LOST,  /* the engine died, and this could not go on */
	RING_BAD_OP,	   /* unknown op or flag */
	RING_NOT_READY,	   /* the model is still loading */
	RING_KILLS_ENGINE, /* the engine died of it twice: never run again */
	RING_REFUSAL_N,
};

/* How a finished request ended. */
enum ring_finish {
	RING_FIN_NONE, /* still running */
	RING_FIN_EOS, /* the model ended its turn (that token is not emitted) */
	RING_FIN_STOP,	 /* a stop token of the request (not emitted) */
	RING_FIN_LENGTH, /* max_tokens reached */
	RING_FIN_CANCEL, /* cancelled by the client */
	/*
	 * -EIO backend, -EDOM NaN, -ENODEV model unloaded,
	 * -ENOTRECOVERABLE RING_KILLS_ENGINE, -EBADMSG the engine died and
	 * what it left in D is damaged
	 */
	RING_FIN_ERROR,
	RING_FIN_DONE, /* nothing was to be generated (embeddings, logits) */
};

/* flags of struct ring_run */
#define RING_RUN_GREEDY	    1u /* the arg max, whatever the parameters */
#define RING_RUN_IGNORE_EOS 2u
#define RING_RUN_EMBED_LAST 4u /* final hidden state of the last prompt token */
#define RING_RUN_EMBED_MEAN 8u /* mean over prompt tokens */
#define RING_RUN_LOGPROBS   16u /* log-probability of each chosen token + top */
#define RING_RUN_ALL_FLAGS  31u

#define RING_MAX_TOP_LOGPROBS 20
#define RING_MAX_BIAS	      4096
#define RING_MAX_STOP	      64
#define RING_MAX_LOGITS	      4096

struct ring_bias {
	uint32_t token;
	float bias; /* -INFINITY bans the token */
};

/**
 * struct ring_run - one request, in C at ring_sqe.off
 * @model:       model id from the handshake socket
 * @flags:       RING_RUN_*
 * @key:         client-chosen key of the request, free for the client's use
 * @seed:        sampling seed
 * @n_prompt:    prompt tokens, uint32_t each, at @prompt_off
 * @max_tokens:  tokens to generate at most; 0 generates none;
 *               RING_MAX_TOKENS_CTX means "as many as the context takes"
 * @temperature: 0 is greedy; finite, 0..100
 * @top_k:       0 is off
 * @top_p:       (0,1], 1 is off
 * @min_p:       [0,1), 0 is off
 * @repeat_penalty:   > 0, 1 is off; over the last @penalty_last tokens
 * @presence_penalty: -2..2, 0 is off
 * @frequency_penalty: -2..2, 0 is off
 * @penalty_last: how many last tokens (prompt and output) penalties look at
 * @n_top_logprobs: with RING_RUN_LOGPROBS: how many alternatives to report
 * @n_bias:      struct ring_bias entries at @bias_off
 * @n_stop:      stop token ids at @stop_off
 * @n_logits:    prompt positions (uint32_t, ascending) at @logits_off whose
 *               logits the client wants
 * @n_done:      struct ring_token entries at @done_off: tokens of the answer
 *               that an earlier session has given already. They stand at the
 *               start of the output array and count as output (max_tokens,
 *               penalties, the sampler's positions): the answer goes on after
 *               them. At most @max_tokens; 0 with @n_top_logprobs, since no
 *               alternatives to them are known
 * @prompt_off:  this and the other offsets count from the record's start;
 *               arrays lie inside ring_sqe.len, 4-byte aligned
 * @bias_off:    see @n_bias
 * @stop_off:    see @n_stop
 * @logits_off:  see @n_logits
 * @done_off:    see @n_done
 * @resv:        0
 */
struct ring_run {
	uint32_t model;
	uint32_t flags;
	uint64_t key;
	uint64_t seed;
	uint32_t n_prompt;
	uint32_t max_tokens;
	float temperature;
	uint32_t top_k;
	float top_p;
	float min_p;
	float repeat_penalty;
	float presence_penalty;
	float frequency_penalty;
	uint32_t penalty_last;
	uint32_t n_top_logprobs;
	uint32_t n_bias;
	uint32_t n_stop;
	uint32_t n_logits;
	uint32_t prompt_off;
	uint32_t bias_off;
	uint32_t stop_off;
	uint32_t logits_off;
	uint32_t n_done;
	uint32_t done_off;
	uint32_t resv[8];
};

#define RING_MAX_TOKENS_CTX 0xffffffffu

/* Members of struct ring_run, in order; RING_BAD_PARAM names one. */
enum ring_field {
	RING_F_MODEL,
	RING_F_FLAGS,
	RING_F_KEY,
	RING_F_SEED,
	RING_F_N_PROMPT,
	RING_F_MAX_TOKENS,
	RING_F_TEMPERATURE,
	RING_F_TOP_K,
	RING_F_TOP_P,
	RING_F_MIN_P,
	RING_F_REPEAT_PENALTY,
	RING_F_PRESENCE_PENALTY,
	RING_F_FREQUENCY_PENALTY,
	RING_F_PENALTY_LAST,
	RING_F_N_TOP_LOGPROBS,
	RING_F_N_BIAS,
	RING_F_N_STOP,
	RING_F_N_LOGITS,
	RING_F_PROMPT_OFF,
	RING_F_BIAS_OFF,
	RING_F_STOP_OFF,
	RING_F_LOGITS_OFF,
	RING_F_N_DONE,
	RING_F_DONE_OFF,
	RING_F_RESV,
	RING_F_N,
};

/* One generated token, in the slot's output array in D. */
struct ring_token {
	uint32_t token;
	float logprob; /* natural logarithm; 0 when not asked for */
};

struct ring_top {
	uint32_t token;
	float logprob;
};

/**
 * struct ring_slot - the state of one request, in D
 * @state:      enum ring_slot_state
 * @gen:        generation given with RUN
 * @finish:     enum ring_finish, valid when @state is RING_SLOT_DONE
 * @err:        negative errno when @finish is RING_FIN_ERROR
 * @n_prompt:   prompt tokens
 * @n_prefill:  prompt tokens done so far
 * @n_out:      tokens in the output array, those that came with the request
 *              (ring_run.n_done) first; stored with release after the token
 * @max_out:    tokens the output array holds
 * @model:      model id
 * @n_cached:   prompt tokens that were not computed again (prefix reuse)
 * @rec_off:    copy of the request record and its arrays, in D
 * @rec_len:    its bytes
 * @out_off:    struct ring_token[max_out] in D
 * @top_off:    struct ring_top[max_out][n_top_logprobs] in D, or 0
 * @logits_off: float[n_logits][n_vocab] in D, or 0
 * @embed_off:  float[n_embd] in D, or 0
 * @key:        the client's key
 * @t_submit_ns: CLOCK_MONOTONIC when the engine accepted it
 * @t_start_ns:  when its first token entered a batch
 * @t_first_ns:  when its first token came out
 * @t_last_ns:   when its last token came out
 * @n_restart:  engines that died while it ran; the next one went on with it
 * @n_vocab:    of its model: how @logits_off is laid out
 * @n_embd:     of its model: how @embed_off is
 * @cq_at:      the daemon's: index of the final entry in the completion queue
 *
 * The daemon's own, for the engine after this one:
 * @sum_rec:    sum of the record, its arrays and what the slot says of them
 * @sum_out:    [n_out & 1]: sum of the output up to n_out
 * @n_strikes:  engines that died of themselves in a step that was its alone
 * @mark:       not 0: an engine died of itself in a step with it; until this
 *              many of its positions are computed it gets steps of its own
 * @step_to:    not 0: a step is under way that computes it up to here
 * @step_alone: nobody else is in that step
 * @resv:       0
 */
struct ring_slot {
	uint32_t state;
	uint32_t gen;
	uint32_t finish;
	int32_t err;
	uint32_t n_prompt;
	uint32_t n_prefill;
	uint32_t n_out;
	uint32_t max_out;
	uint32_t model;
	uint32_t n_cached;
	uint64_t rec_off;
	uint64_t rec_len;
	uint64_t out_off;
	uint64_t top_off;
	uint64_t logits_off;
	uint64_t embed_off;
	uint64_t key;
	uint64_t t_submit_ns;
	uint64_t t_start_ns;
	uint64_t t_first_ns;
	uint64_t t_last_ns;
	uint32_t n_restart;
	uint32_t n_vocab;
	uint32_t n_embd;
	uint32_t cq_at;
	uint64_t sum_rec;
	uint64_t sum_out[2];
	uint32_t n_strikes;
	uint32_t mark;
	uint32_t step_to;
	uint32_t step_alone;
	uint32_t resv[18];
};

enum ring_slot_state {
	RING_SLOT_FREE,
	RING_SLOT_QUEUED, /* accepted, in D, waiting for its turn */
	RING_SLOT_RUNNING,
	RING_SLOT_DONE, /* output stays until RELEASE */
};

_Static_assert(sizeof(struct ring_sqe) == RING_ENTRY_BYTES, "sqe");
_Static_assert(sizeof(struct ring_cqe) == RING_ENTRY_BYTES, "cqe");
_Static_assert(sizeof(struct ring_layout) == 72, "layout");
_Static_assert(sizeof(struct ring_run) == 136, "run");
_Static_assert(sizeof(struct ring_slot) == 256, "slot");
_Static_assert(sizeof(struct ring_c) <= RING_PAGE, "c page");
_Static_assert(sizeof(struct ring_d) <= RING_PAGE, "d page");

#endif
