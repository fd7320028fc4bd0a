/* Layers on their way: downloads that are hashed and unpacked on the blocking pool as they come. */
#include <stdio.h>
#include <stdlib.h>

#include "runtime/image_store.h"

#define BATCH_BYTES KiB(256) /* worth a turn of the pool */
#define BACKLOG_PAUSE MiB(1) /* stop reading from the network */
#define BACKLOG_MAX MiB(16)

enum job_state { JOB_QUEUED, JOB_RUNNING, JOB_COMMITTING, JOB_OVER };

struct layer_job {
    struct list link;
    struct image_store *store;
    enum job_state state;
    struct layer_want want; /* of the first who wanted it; done, progress and arg are unused */
    struct list waiters;
    unsigned number; /* tmp/<number> */
    unsigned tries;  /* endpoints whose bytes turned out bad */

    struct registry_blob *blob;
    size_t blob_endpoint;
    uint64_t received;
    bool download_over, paused, cancelling, abandoned;
    int net_code;
    struct error net_err;

    struct buf backlog;
    bool working; /* the rest is the pool's then */
    struct layer *layer;
    struct buf batch;
    bool at_end;
    int unpack_code;
    struct error unpack_err;
    struct layer_result result;
    char *implied;
};

struct layer_waiter {
    struct list link;
    struct layer_job *job;
    struct layer_want want;
};

static void job_advance(struct layer_job *j);
static void jobs_start(struct image_store *s);

/* --- the end of a job -------------------------------------------------------------------------------------------------- */

static void job_free(struct layer_job *j) {
    struct image_store *s = j->store;
    list_remove(&j->link);
    registry_source_unref(j->want.source);
    buf_fini(&j->backlog);
    buf_fini(&j->batch);
    free(j->implied);
    free(j);
    jobs_start(s);
    image_store_network(s, -1);
    image_store_release(s);
}

/* Tells everyone; each gets a use of the layer of its own. */
static void job_tell(struct layer_job *j, struct image_layer *layer, int code, const struct error *err) {
    j->state = JOB_OVER;
    list_remove(&j->link); /* whoever wants it now starts anew, or finds it present */
    for (struct list *it; (it = list_pop_front(&j->waiters));) {
        struct layer_waiter *w = LIST_ITEM(it, struct layer_waiter, link);
        struct layer_want want = w->want;
        free(w);
        if (layer)
            image_layer_use(layer);
        want.done(want.arg, layer, code, err);
    }
    if (layer)
        image_layer_unuse(j->store, layer, false); /* the job's own */
    job_free(j);
}

static void on_committed(void *arg, struct image_layer *layer, const struct error *err) {
    job_tell(arg, layer, layer ? 0 : err->code ? err->code : -EIO, err);
}

static void job_commit(struct layer_job *j) {
    struct layer_commit c = {.number = j->number,
                             .bytes = j->result.bytes,
                             .entries = j->result.entries,
                             .implied = TAKE_PTR(j->implied),
                             .done = on_committed,
                             .arg = j};
    memcpy(c.chain, j->want.chain, sizeof(c.chain));
    memcpy(c.diff, j->want.diff, sizeof(c.diff));
    memcpy(c.below, j->want.below, sizeof(c.below));
    j->state = JOB_COMMITTING;
    j->store->downloads--;
    image_layer_commit(j->store, &c);
    jobs_start(j->store);
}

/* Nothing of it runs any more, and it failed or nobody wants it. */
static void job_give_up(struct layer_job *j) {
    struct error err = {.code = -ECANCELED, .msg = "cancelled"};
    if (!j->abandoned) {
        err = j->unpack_code ? j->unpack_err : j->net_err;
        err.code = j->unpack_code ? j->unpack_code : j->net_code;
    }
    j->store->downloads--;
    layer_free(TAKE_PTR(j->layer));
    image_tmp_remove(j->store, j->number);
    job_tell(j, NULL, err.code, &err);
}

/* --- unpacking on the pool --------------------------------------------------------------------------------------------- */

static void unpack_work(void *arg) {
    struct layer_job *j = arg;
    if (j->batch.n)
        j->unpack_code = layer_push(j->layer, buf_str(&j->batch), &j->unpack_err);
    if (j->unpack_code || !j->at_end)
        return;
    j->unpack_code = layer_end(j->layer, &j->result, &j->unpack_err);
    if (j->unpack_code == 0)
        j->implied = xstrndup(j->result.implied.p, j->result.implied.n);
    layer_free(TAKE_PTR(j->layer));
}

static void unpack_done(void *arg) {
    struct layer_job *j = arg;
    j->working = false;
    buf_reset(&j->batch);
    job_advance(j);
}

static void unpack_start(struct layer_job *j) {
    struct buf swap = j->batch;
    j->batch = j->backlog;
    j->backlog = swap;
    j->at_end = j->download_over;
    j->working = true;
    loop_work(j->store->o.loop, unpack_work, unpack_done, j);
}

/* --- the download ------------------------------------------------------------------------------------------------------ */

static int on_data(void *arg, struct str data) {
    struct layer_job *j = arg;
    j->received += data.n;
    if (j->backlog.n + data.n > BACKLOG_MAX)
        return error_set(&j->net_err, -ENOBUFS, "layer %s: more data than can be held", j->want.blob.digest.p);
    buf_put(&j->backlog, data.p, data.n);
    if (j->backlog.failed)
        return error_set(&j->net_err, -ENOMEM, "layer %s: no memory", j->want.blob.digest.p);
    if (j->backlog.n >= BACKLOG_PAUSE && !j->paused) {
        j->paused = true;
        registry_blob_pause(j->blob, true);
    }
    if (!j->working && j->backlog.n >= BATCH_BYTES)
        unpack_start(j);
    LIST_FOREACH (it, &j->waiters) {
        struct layer_waiter *w = LIST_ITEM(it, struct layer_waiter, link);
        if (w->want.progress)
            w->want.progress(w->want.arg, j->received);
    }
    return 0;
}

static void on_blob_done(void *arg, int code, const struct error *err) {
    struct layer_job *j = arg;
    j->blob_endpoint = registry_blob_endpoint(j->blob);
    j->blob = NULL;
    if (code == 0) {
        j->download_over = true;
    } else if (!j->cancelling) {
        j->net_code = code;
        if (!j->net_err.code)
            j->net_err = *err;
    }
    job_advance(j);
}

static void blob_start(struct layer_job *j, size_t endpoint) {
    struct registry_blob_events ev = {on_data, on_blob_done, j};
    struct image_store *s = j->store;
    cleanup_free char *dir = image_store_path(s, "tmp/%u", j->number);
    struct layer_options o = {.dir = dir,
                              .name = j->want.blob.digest.p,
                              .digest = j->want.blob.digest,
                              .diff_id = str_c(j->want.diff),
                              .bytes_max = s->o.layer_bytes_max,
                              .entries_max = s->o.layer_entries_max};
    j->layer = layer_new(&o);
    j->blob = registry_blob_start(s->registry, j->want.source, endpoint, j->want.blob.digest, j->want.blob.size, &ev);
}

/* The bytes of this endpoint were bad; another may have good ones. */
static bool try_elsewhere(struct layer_job *j) {
    if (j->abandoned || (j->unpack_code != -EBADMSG && j->unpack_code != -EINVAL) ||
        ++j->tries >= j->want.source->endpoints_n)
        return false;
    log_warn("images", "%s (from %s); trying elsewhere", j->unpack_err.msg,
             j->want.source->endpoints[j->blob_endpoint].base.p);
    layer_free(TAKE_PTR(j->layer));
    image_tmp_remove(j->store, j->number);
    j->number = atomic_fetch_add(&j->store->next_number, 1);
    j->net_code = j->unpack_code = 0;
    j->net_err = j->unpack_err = (struct error){0};
    j->received = 0;
    j->download_over = j->at_end = j->paused = j->cancelling = false;
    buf_reset(&j->backlog);
    blob_start(j, (j->blob_endpoint + 1) % j->want.source->endpoints_n);
    return true;
}

/* Decides what comes next, whenever something ended. */
static void job_advance(struct layer_job *j) {
    if (j->state != JOB_RUNNING)
        return;
    bool failed = j->net_code || j->abandoned || (!j->working && j->unpack_code);
    if (failed && j->blob) {
        if (!j->cancelling) {
            j->cancelling = true;
            registry_blob_cancel(j->blob); /* on_blob_done() comes back here */
        }
        return;
    }
    if (j->working)
        return;
    if (failed) {
        if (!try_elsewhere(j))
            job_give_up(j);
        return;
    }
    if (j->at_end) {
        job_commit(j);
        return;
    }
    if (j->backlog.n >= BATCH_BYTES || j->download_over)
        unpack_start(j);
    if (j->paused && j->blob && j->backlog.n < BACKLOG_PAUSE) {
        j->paused = false;
        registry_blob_pause(j->blob, false);
    }
}

/* --- starting and joining ---------------------------------------------------------------------------------------------- */

static void jobs_start(struct image_store *s) {
    LIST_FOREACH (it, &s->jobs) {
        struct layer_job *j = LIST_ITEM(it, struct layer_job, link);
        if (s->downloads >= s->o.downloads_max)
            return;
        if (j->state != JOB_QUEUED)
            continue;
        j->state = JOB_RUNNING;
        s->downloads++;
        blob_start(j, j->want.endpoint);
    }
}

static struct layer_job *job_new(struct image_store *s, const struct layer_want *w) {
    struct layer_job *j = XNEW(struct layer_job);
    j->store = s;
    j->want = *w;
    j->want.source = registry_source_ref(w->source);
    /* The strings live as long as the source. */
    j->want.blob.digest = str_dup(w->source->arena, w->blob.digest);
    j->number = atomic_fetch_add(&s->next_number, 1);
    list_init(&j->waiters);
    buf_init(&j->backlog, BACKLOG_MAX + 1);
    buf_init(&j->batch, BACKLOG_MAX + 1);
    image_store_hold(s);
    image_store_network(s, 1);
    list_push_back(&s->jobs, &j->link);
    return j;
}

struct layer_waiter *image_layer_get(struct image_store *s, const struct layer_want *want) {
    struct layer_job *j = NULL;
    LIST_FOREACH (it, &s->jobs) {
        struct layer_job *have = LIST_ITEM(it, struct layer_job, link);
        if (strcmp(have->want.chain, want->chain) == 0 && !have->abandoned && !have->net_code)
            j = have;
    }
    if (!j)
        j = job_new(s, want);
    struct layer_waiter *w = XNEW(struct layer_waiter);
    w->job = j;
    w->want = *want;
    list_push_back(&j->waiters, &w->link);
    jobs_start(s);
    return w;
}

void image_layer_forget(struct layer_waiter *w) {
    struct layer_job *j = w->job;
    list_remove(&w->link);
    free(w);
    if (!list_empty(&j->waiters) || j->state == JOB_OVER)
        return;
    if (j->state == JOB_QUEUED) {
        job_free(j);
    } else if (j->state == JOB_COMMITTING) {
        if (image_layer_commit_cancel(j->store, j->number))
            job_free(j);
    } else {
        j->abandoned = true;
        job_advance(j);
    }
}
