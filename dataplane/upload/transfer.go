package upload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/resilience"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// bucket is what a transfer needs of objectstore.Bucket.
type bucket interface {
	Checksum() objectstore.Checksum
	Put(ctx context.Context, o objectstore.Object) (etag string, err error)
	Stat(ctx context.Context, key string) (objectstore.Info, error)
	Digest(ctx context.Context, key string, most int64, buf []byte) (n int64, sha256 string, err error)
	Remove(ctx context.Context, key string) error
}

// mover moves recordings from their source into the bucket.
type mover struct {
	cfg    *tenantconfig.Upload
	source *source
	bucket bucket
	lanes  *lanes
	// registry keeps the tenant's breaker for the bucket.
	registry *resilience.Registry
	// maxSize of a recording.
	maxSize int64
	// storageStall is how long the bucket may take no byte.
	storageStall time.Duration
	// mark notes in the queue that the bucket may hold an object from now on.
	mark func(ctx context.Context, id string) error
}

// transfer is one recording on its way. Its tries follow one another, never at once.
type transfer struct {
	*mover
	rec *store.Recording
	// key of the object, once the source has answered.
	key string
}

// copyBuffers are for reading without sending.
var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// move returns the result of a verified upload, a *fault, store.ErrLeaseLost, or why the context ended. It sets
// rec.UploadStarted as the queue does.
func (m *mover) move(ctx context.Context, rec *store.Recording) (*store.Result, error) {
	t := &transfer{mover: m, rec: rec}
	var result *store.Result
	err := m.registry.Do(ctx, m.cfg.ID, dependencyS3, func(ctx context.Context) (err error) {
		result, err = t.try(ctx)
		return err
	})
	switch {
	case err == nil:
		return result, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, store.ErrLeaseLost):
		return nil, store.ErrLeaseLost
	}
	return nil, asFault(err)
}

// try fetches the recording once and sends it to the bucket. Errors that are not the bucket's are marked with
// resilience.Abort: another try of the bucket would not help.
func (t *transfer) try(ctx context.Context) (*store.Result, error) {
	b, err := t.open(ctx)
	if err != nil {
		return nil, resilience.Abort(err)
	}
	defer func() { b.close() }()
	if t.rec.UploadStarted { // an earlier try, of this worker or of another, may have stored it
		result, used, err := t.compare(ctx, b)
		if result != nil || err != nil {
			return result, err
		}
		if used { // the source was read to compare: read again, to send
			b.close()
			if b, err = t.open(ctx); err != nil {
				return nil, resilience.Abort(err)
			}
		}
	}
	if err := t.started(ctx); err != nil {
		return nil, resilience.Abort(err)
	}
	return t.send(ctx, b)
}

// open starts to fetch, and fixes the object's key.
func (t *transfer) open(ctx context.Context) (*body, error) {
	ctx, span := downloading(ctx, t.rec.SourceURL)
	b, err := t.source.open(ctx, t.rec.SourceURL)
	if err != nil {
		ended(span, err)
		return nil, err
	}
	b.span = span
	if b.size > t.maxSize {
		b.close()
		return nil, tooLarge(t.maxSize)
	}
	t.key, err = recording.ObjectKey(t.cfg.ID, t.cfg.KeyTemplate, recording.KeyInput{
		CallSID:     t.rec.CallSID,
		RecordingID: t.rec.ID,
		Queued:      t.rec.CreatedAt,
		Ext:         b.extension(),
	})
	if err != nil {
		b.close()
		return nil, &fault{kind: never, code: reason.KeyInvalid, text: err.Error()}
	}
	return b, nil
}

// started notes in the queue, once, that a PUT is about to begin.
func (t *transfer) started(ctx context.Context) error {
	if t.rec.UploadStarted {
		return nil
	}
	if err := t.mark(ctx, t.rec.ID); err != nil {
		if errors.Is(err, store.ErrLeaseLost) {
			return err
		}
		return databaseFault(err)
	}
	t.rec.UploadStarted = true
	return nil
}

// compare looks for an object of an earlier try and, if it may be the recording, reads the source (used) to find out.
// A result means that it is, and that there is nothing to send.
func (t *transfer) compare(ctx context.Context, b *body) (result *store.Result, used bool, err error) {
	info, err := t.bucket.Stat(ctx, t.key)
	if errors.Is(err, objectstore.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if b.size >= 0 && b.size != info.Size {
		return nil, false, nil
	}
	digest := newDigest(t.lanes, b, t.maxSize, true)
	defer digest.close()
	if err := drain(digest); err != nil {
		return nil, true, resilience.Abort(err)
	}
	sums := digest.sums()
	if sums.size != info.Size || sums.sha256 != info.SHA256 && !sums.matches(info.ETag) {
		return nil, true, nil
	}
	return t.result(sums), true, nil
}

// drain reads to the end with a pooled buffer, and returns the reader's error.
func drain(r io.Reader) error {
	buf := copyBuffers.Get().(*[]byte) // the pool makes nothing else
	defer copyBuffers.Put(buf)
	_, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{r}, *buf)
	return err
}

// send streams the recording into the bucket and verifies what is there then.
func (t *transfer) send(ctx context.Context, b *body) (*store.Result, error) {
	putCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	digest := t.digest(b)
	defer digest.close()
	gate := newGate(digest, t.storageStall, cancel)
	tracedCtx, span := t.storing(putCtx, "PUT object")
	etag, err := t.bucket.Put(tracedCtx, objectstore.Object{
		Key:         t.key,
		Body:        gate,
		Size:        b.size,
		ContentType: b.objectType(),
		Meta:        t.meta(b),
		WholeMeta:   durationOf,
		Sums:        digest.whole,
		Progress:    gate.progress,
	})
	ended(span, err)
	b.end() // a Read under way returns, so that the gate can close
	gate.close()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case digest.err != nil && !errors.Is(digest.err, errBodyEnded):
		return nil, resilience.Abort(digest.err) // the source broke off, whatever the bucket made of it
	case errors.Is(context.Cause(putCtx), errStorageStalled):
		err = resilience.Retryable(errStorageStalled)
	}
	if !digest.complete(b.size) || objectstore.CauseOf(err).Reason != "" {
		return nil, orIncomplete(err)
	}
	sums := digest.sums()
	if err == nil && (t.bucket.Checksum().Sent() || sums.matches(etag)) {
		return t.result(sums), nil // the store has verified the checksum, or took the MD5 of what it keeps
	}
	result, verr := t.verify(ctx, sums, etag)
	if verr != nil && err != nil {
		return nil, err // not stored, and why
	}
	return result, verr
}

// digest takes the digests that the bucket's checksum needs.
func (t *transfer) digest(b *body) *digest {
	if !t.bucket.Checksum().NeedsMD5() {
		return newDigest(nil, b, t.maxSize, false)
	}
	return newDigest(t.lanes, b, t.maxSize, b.size < 0)
}

// meta is what the object says of itself.
func (t *transfer) meta(b *body) map[string]string {
	meta := durationMeta(audioDuration(b.head, b.size))
	maps.Copy(meta, map[string]string{
		"tenant":       t.cfg.ID,
		"call-sid":     t.rec.CallSID,
		"recording-id": t.rec.ID,
		"queued-at":    t.rec.CreatedAt.UTC().Format(time.RFC3339),
	})
	return meta
}

// durationOf is what an object says of itself that is known from all of it.
func durationOf(body []byte) map[string]string {
	return durationMeta(audioDuration(body, int64(len(body))))
}

// durationMeta has no duration that is unknown.
func durationMeta(d time.Duration) map[string]string {
	meta := map[string]string{}
	if d > 0 {
		meta["duration"] = strconv.FormatFloat(d.Seconds(), 'f', 1, 64)
	}
	return meta
}

// orIncomplete covers a store that reported success without having asked for everything.
func orIncomplete(err error) error {
	if err != nil {
		return err
	}
	return resilience.Retryable(mismatch("the object store reported success before it had read the recording"))
}

// verify reads the object's metadata where the PUT's answer is not enough: it reported an error and may have been lost
// on the way, or its ETag is not a digest. etag is the PUT's, empty if it gave none.
func (t *transfer) verify(ctx context.Context, s sums, etag string) (result *store.Result, err error) {
	ctx, span := t.storing(ctx, "verify object")
	defer func() { ended(span, err) }()
	info, err := t.bucket.Stat(ctx, t.key)
	if errors.Is(err, objectstore.ErrNotFound) {
		return nil, resilience.Retryable(mismatch("the object is not there after its upload"))
	}
	if err != nil {
		return nil, err
	}
	if info.Size != s.size {
		return nil, resilience.Retryable(mismatch("the object has %d bytes and the recording %d", info.Size, s.size))
	}
	if s.sha256 == info.SHA256 || s.matches(info.ETag) && (etag == "" || etag == info.ETag) {
		return t.result(s), nil
	}
	return t.readBack(ctx, s)
}

// readBack is for a store whose ETags are not digests: only the object itself proves its contents.
func (t *transfer) readBack(ctx context.Context, s sums) (*store.Result, error) {
	buf := copyBuffers.Get().(*[]byte) // the pool makes nothing else
	defer copyBuffers.Put(buf)
	n, got, err := t.bucket.Digest(ctx, t.key, s.size+1, *buf)
	if err != nil {
		return nil, err
	}
	if n != s.size || got != s.sha256 {
		return nil, resilience.Retryable(mismatch("the object's bytes are not the recording's"))
	}
	return t.result(s), nil
}

// mismatch returns the fault for an object that differs from its source. The recording is uploaded again.
func mismatch(format string, args ...any) *fault {
	return &fault{
		kind: later,
		code: reason.StorageMismatch,
		text: fmt.Sprintf(format, args...) + "; it will be uploaded again",
	}
}

// result returns what is recorded of a verified object.
func (t *transfer) result(s sums) *store.Result {
	return &store.Result{Bucket: t.cfg.Bucket, Key: t.key, SHA256: s.sha256, MD5: s.md5, Size: s.size}
}

// discard removes what a recording that is given up may have left: some stores keep the beginning of a broken PUT. Where
// the key may not delete, it stays; the recording says Failed all the same.
func (m *mover) discard(ctx context.Context, rec *store.Recording) error {
	if !rec.UploadStarted {
		return nil
	}
	key, err := recording.ObjectKey(m.cfg.ID, m.cfg.KeyTemplate, recording.KeyInput{
		CallSID:     rec.CallSID,
		RecordingID: rec.ID,
		Queued:      rec.CreatedAt,
		Ext:         extensionOf(rec.SourceURL, ""),
	})
	if err != nil {
		return nil //nolint:nilerr // then there never was an object
	}
	return m.bucket.Remove(ctx, key)
}
