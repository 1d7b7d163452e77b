package capture

import (
	"context"
	"crypto/md5" //nolint:gosec // it is what an ETag is
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/wav"
)

// bring sees a capture whose call has ended through to its end: in the bucket, failed, or another pod's. Until done it may be called again.
func (t *tape) bring(ctx context.Context) (done bool, err error) {
	err = t.finish(ctx)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, errLost):
		t.abandon()
		return true, nil
	case !t.m.Ended.IsZero() && time.Since(t.m.Ended) > t.c.o.GiveUpAfter:
		gaveUp := t.giveUp(
			ctx, reason.StorageFailed,
			fmt.Sprintf("the capture could not be brought to bucket %q in %s: %s",
				t.m.Bucket, t.c.o.GiveUpAfter, objectstore.Explain(err)),
		)
		return gaveUp == nil, gaveUp
	}
	return false, err
}

// finish brings what is left.
func (t *tape) finish(ctx context.Context) error {
	if err := t.ensureRow(ctx); err != nil {
		return err
	}
	if t.m.Failed {
		return t.finishFailed(ctx)
	}
	if err := t.seal(ctx); err != nil {
		return err
	}
	if t.m.Size <= wav.HeaderSize {
		return t.failed(ctx)
	}
	b, err := t.bucket()
	if err != nil {
		return err
	}
	if t.m.UploadID == "" && t.m.Size <= partSize {
		return t.putWhole(ctx, b)
	}
	return t.putParts(ctx, b)
}

// finishFailed goes on with the end of a capture that has failed.
func (t *tape) finishFailed(ctx context.Context) error {
	b, err := t.bucket()
	if err != nil {
		return err
	}
	return t.endFailed(ctx, b)
}

// failed ends a capture of which there is nothing.
func (t *tape) failed(ctx context.Context) error {
	code := t.m.Code
	message := t.m.Message
	if code == "" {
		code = reason.PodLost
		message = "the process that captured the call ended before it had written any of it"
	}
	return t.giveUp(ctx, code, message)
}

// seal makes the file whole: its size is known then.
func (t *tape) seal(ctx context.Context) error {
	if !t.m.Ended.IsZero() {
		return nil
	}
	size, err := t.length(ctx)
	if err != nil {
		return err
	}
	t.m.Size = size
	t.m.Ended = time.Now()
	if code, message := t.shortened(); code != "" {
		t.m.Code = code
		t.m.Message = message
	}
	_ = t.save() // a disk may be full: then the next process finds the size again
	return nil
}

// length of the file: all segments but the last are full, and the last is on disk or, if none was begun after it, in the bucket.
func (t *tape) length(ctx context.Context) (int64, error) {
	last, err := t.spool.highest()
	if err != nil || last == 0 {
		return 0, err
	}
	size, err := t.spool.trim(last)
	if err != nil {
		return 0, err
	}
	total := int64(last-1)*partSize + size
	if t.m.UploadID == "" || size < partSize {
		return total, nil
	}
	b, err := t.bucket()
	if err != nil {
		return 0, err
	}
	parts, err := t.parts(ctx, b)
	if errors.Is(err, objectstore.ErrNoUpload) {
		return total, nil
	}
	for _, p := range parts {
		total = max(total, int64(p.Number-1)*partSize+p.Size)
	}
	return total, err
}

func (t *tape) parts(ctx context.Context, b *objectstore.Bucket) (parts []objectstore.Part, err error) {
	err = t.request(ctx, func(ctx context.Context) (err error) {
		parts, err = b.Parts(ctx, t.m.Key, t.m.UploadID)
		return err
	})
	return parts, err
}

// title writes the header with the size.
func (t *tape) title() error {
	return t.spool.putHeader(wav.CallHeader(t.m.Rate, t.m.Size-wav.HeaderSize))
}

// untitle writes the header of a file whose size is unknown.
func (t *tape) untitle() error { return t.spool.putHeader(wav.CallHeader(t.m.Rate, math.MaxInt64)) }

// putWhole sends a file of one segment.
func (t *tape) putWhole(ctx context.Context, b *objectstore.Bucket) error {
	if err := t.title(); err != nil {
		return err
	}
	file, err := os.Open(t.spool.segment(1))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	sha := sha256.New()
	sum := md5.New() //nolint:gosec // it is what an ETag is
	if _, err := io.Copy(io.MultiWriter(sha, sum), file); err != nil {
		return err
	}
	sums := objectstore.Sums{SHA256: sha.Sum(nil), MD5: sum.Sum(nil)}
	etag := ""
	err = t.request(ctx, func(ctx context.Context) (err error) {
		if _, err = file.Seek(0, io.SeekStart); err != nil {
			return err
		}
		object := t.m.object()
		object.Body = file
		object.Sums = func() objectstore.Sums { return sums }
		etag, err = b.Put(ctx, object)
		return err
	})
	if err != nil {
		return fmt.Errorf("send the file: %w", err)
	}
	digest := hex.EncodeToString(sums.SHA256)
	if !b.Checksum().Sent() && etag != hex.EncodeToString(sums.MD5) { // only the object itself tells
		if err := t.readBack(ctx, b, digest); err != nil {
			return err
		}
	}
	return t.uploaded(ctx, b, digest)
}

// readBack compares the object with what was sent.
func (t *tape) readBack(ctx context.Context, b *objectstore.Bucket, want string) error {
	return t.request(ctx, func(ctx context.Context) error {
		_, got, err := b.Digest(ctx, t.m.Key, t.m.Size+1, nil)
		if err != nil {
			return fmt.Errorf("read the object back: %w", err)
		}
		if got != want {
			return errors.New("the object is not what was sent; it is sent again")
		}
		return nil
	})
}

// putParts sends the parts that the bucket does not have, sends the first part again with its header, and completes
// the upload.
func (t *tape) putParts(ctx context.Context, b *objectstore.Bucket) error {
	if err := t.ensureUpload(ctx, b); err != nil {
		return err
	}
	there, err := t.parts(ctx, b)
	if errors.Is(err, objectstore.ErrNoUpload) {
		return t.withoutUpload(ctx, b)
	}
	if err != nil {
		return fmt.Errorf("list the parts: %w", err)
	}
	if err := t.sendRest(ctx, b, there); err != nil {
		return err
	}
	parts, err := t.parts(ctx, b)
	if err != nil {
		return fmt.Errorf("list the parts: %w", err)
	}
	if size := sizeOf(parts); size != t.m.Size {
		return t.giveUp(
			ctx,
			reason.UploadLost,
			fmt.Sprintf("the bucket has %d bytes of %d, and the rest is nowhere any more", size, t.m.Size),
		)
	}
	err = t.request(ctx, func(ctx context.Context) error { return b.CompleteUpload(ctx, t.m.Key, t.m.UploadID, parts) })
	if err != nil && !errors.Is(err, objectstore.ErrNoUpload) {
		return fmt.Errorf("complete the upload in parts: %w", err)
	}
	return t.uploaded(ctx, b, "")
}

// sizeOf returns the bytes of all parts.
func sizeOf(parts []objectstore.Part) (size int64) {
	for _, p := range parts {
		size += p.Size
	}
	return size
}

// sendRest sends what the bucket does not have. A first part that was never sent goes before the others. The first
// part is sent again after them, with the size. So the parts in the bucket always form a playable file, and a header
// with a size is right.
func (t *tape) sendRest(ctx context.Context, b *objectstore.Bucket, there []objectstore.Part) error {
	sizes := make(map[int]int64, len(there))
	for _, p := range there {
		sizes[p.Number] = p.Size
	}
	if sizes[1] == 0 {
		if err := errors.Join(t.untitle(), t.sendPart(ctx, b, 1)); err != nil {
			return err
		}
	}
	for n := 2; int64(n-1)*partSize < t.m.Size; n++ {
		want := min(partSize, t.m.Size-int64(n-1)*partSize)
		// A part that is on disk too was sent without success. Only a store that verified it proves that it has it.
		if !t.spool.has(n) || sizes[n] == want && t.m.Checksum.Sent() {
			continue // what is nowhere shows in the sum
		}
		if err := t.sendPart(ctx, b, n); err != nil {
			return err
		}
	}
	return errors.Join(t.title(), t.sendPart(ctx, b, 1))
}

// withoutUpload handles an upload that does not exist any more. It was completed and the answer was lost, or something
// aborted it, such as a lifecycle rule of the bucket.
func (t *tape) withoutUpload(ctx context.Context, b *objectstore.Bucket) error {
	ok, _, err := t.c.inspect(ctx, b, t.m.Tenant, t.m.Key, t.m.Size)
	switch {
	case err != nil:
		return err
	case ok:
		return t.uploaded(ctx, b, "")
	}
	if !t.onDisk() {
		return t.giveUp(
			ctx, reason.UploadLost,
			"another client of the bucket, or a lifecycle rule, ended the upload in "+
				"parts with what had been sent; let rules keep uploads in parts for longer than the longest call",
		)
	}
	t.m.UploadID = "" // all is here still: from the start
	return errors.New("the upload in parts was ended by somebody else; it starts again")
}

// uploaded ends the capture, if the object is what was sent.
func (t *tape) uploaded(ctx context.Context, b *objectstore.Bucket, sha string) error {
	ok, size, err := t.c.inspect(ctx, b, t.m.Tenant, t.m.Key, t.m.Size)
	if err != nil {
		return fmt.Errorf("look at the object: %w", err)
	}
	if !ok {
		return fmt.Errorf("the object has %d bytes and the capture %d", size, t.m.Size)
	}
	message := t.m.Message
	outcome := outcomeUploaded
	if sha == "" && t.unverified(b) {
		sha, err = t.compare(ctx, b)
		switch {
		case errors.Is(err, errDiffers):
			return t.differs(ctx, b, err)
		case err != nil:
			return err
		case sha == "":
			message = joined(message, messageUnverified)
			outcome = outcomeUnverified
			t.c.warnUnverified(t.m.ref(), t.m.Session)
		}
	}
	if err := t.abortOthers(ctx, b); err != nil {
		return fmt.Errorf("end other uploads in parts of the capture: %w", err)
	}
	end := store.CaptureEnd{Size: t.m.Size, SHA256: sha, Code: t.m.Code, Message: message}
	if err := t.end(ctx, end); err != nil {
		return err
	}
	t.c.m.bytes.Add(float64(t.m.Size))
	if t.m.Code != "" {
		outcome = outcomeCut
	}
	t.c.m.ended(outcome)
	return nil
}

// end writes the row's end, and gives the disk back.
func (t *tape) end(ctx context.Context, e store.CaptureEnd) error {
	switch err := t.c.o.Store.FinishCapture(ctx, t.m.ref(), t.c.o.Pod, e); {
	case errors.Is(err, store.ErrLeaseLost):
		return errLost
	case err != nil:
		return fmt.Errorf("write the capture's end: %w", err)
	}
	if err := t.spool.remove(); err != nil { // it is found at the next start, and has no row then
		t.c.o.Log.Warn("what is left of a capture on the disk could not be removed",
			"tenant", t.m.Tenant,
			"session", t.m.Session,
			"call", t.m.CallSID,
			"error", err,
		)
	}
	return nil
}

// decide notes that the capture has failed, before anything of it is removed. A later try then has the same reason,
// whatever it finds in the bucket.
func (t *tape) decide(code, message string) {
	if t.m.Failed {
		return
	}
	t.m.Failed = true
	t.m.Code = code
	t.m.Message = message
	_ = t.save() // a full disk must not keep its capture from leaving it
}

// giveUp fails the capture. What the bucket has of it is given up first. A reason that was decided before counts.
func (t *tape) giveUp(ctx context.Context, code, message string) error {
	t.decide(code, message)
	code = t.m.Code
	message = t.m.Message
	t.discard(ctx)
	if err := t.end(ctx, store.CaptureEnd{Failed: true, Code: code, Message: message}); err != nil {
		return err
	}
	t.c.m.ended(outcomeFailed)
	t.c.o.Log.Warn("a capture is lost",
		"tenant", t.m.Tenant,
		"session", t.m.Session,
		"call", t.m.CallSID,
		"code", code,
		"reason", message,
	)
	return nil
}

// discard ends the upload in parts, as far as the bucket answers.
func (t *tape) discard(ctx context.Context) {
	if t.m.UploadID == "" && !t.m.Doubt {
		return
	}
	b, err := t.bucket()
	if err == nil && t.m.UploadID != "" {
		err = t.request(ctx, func(ctx context.Context) error { return b.AbortUpload(ctx, t.m.Key, t.m.UploadID) })
	}
	if err == nil {
		err = t.abortOthers(ctx, b)
	}
	if err != nil {
		t.c.o.Log.Warn(
			"an upload in parts of a capture that is lost could not be ended: a lifecycle rule of the bucket should end old ones",
			"tenant",
			t.m.Tenant,
			"session",
			t.m.Session,
			"call",
			t.m.CallSID,
			"bucket",
			t.m.Bucket,
			"key",
			t.m.Key,
			"error",
			objectstore.Detail(err),
		)
	}
}

// abandon leaves the capture to the pod that has it.
func (t *tape) abandon() {
	_ = t.spool.remove() // what stays is found at the next start
	t.c.m.ended(outcomeLost)
	t.c.o.Log.Warn("a capture is another pod's now",
		"tenant", t.m.Tenant, "session", t.m.Session, "call", t.m.CallSID)
}
