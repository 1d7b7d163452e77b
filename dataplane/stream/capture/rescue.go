package capture

import (
	"context"
	"errors"
	"fmt"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/wav"
)

const messagePodLost = "the capture ends before its call: its pod was gone before the rest was in the bucket"

// rescue ends a capture whose pod is gone with its disk: of the parts that the bucket has becomes a file, whose header says that its size
// is unknown. Of what was never sent nothing is left.
func (c *Captures) rescue(ctx context.Context, row store.Capture) error {
	b, err := c.bucket(row.Tenant, row.Bucket, nil)
	if err != nil {
		return err
	}
	ids, err := c.uploadsOf(ctx, b, row)
	if err != nil {
		return fmt.Errorf("list the uploads in parts: %w", err)
	}
	best, parts, err := c.longest(ctx, b, row, ids)
	if err != nil {
		return fmt.Errorf("list the parts: %w", err)
	}
	if len(parts) > 0 {
		err := c.request(
			ctx, row.Tenant, func(ctx context.Context) error { return b.CompleteUpload(ctx, row.Key, best, parts) },
		)
		if err != nil && !errors.Is(err, objectstore.ErrNoUpload) {
			return fmt.Errorf("complete the upload in parts: %w", err)
		}
	}
	for _, id := range ids {
		if id == best && len(parts) > 0 {
			continue
		}
		if err := c.request(
			ctx, row.Tenant, func(ctx context.Context) error { return b.AbortUpload(ctx, row.Key, id) },
		); err != nil {
			return err
		}
	}
	return c.settle(ctx, b, row)
}

// uploadsOf are the uploads in parts of a capture, by its row and by its key: the row may not know the one that was begun last.
func (c *Captures) uploadsOf(ctx context.Context, b *objectstore.Bucket, row store.Capture) (ids []string, err error) {
	err = c.request(ctx, row.Tenant, func(ctx context.Context) (err error) {
		ids, err = b.Uploads(ctx, row.Key)
		return err
	})
	if err != nil && (row.UploadID == "" || objectstore.CauseOf(err).Reason == "") {
		return nil, err // a key that may not list must do with the row's
	}
	for _, id := range ids {
		if id == row.UploadID {
			return ids, nil
		}
	}
	if row.UploadID != "" {
		ids = append(ids, row.UploadID)
	}
	return ids, nil
}

// longest is the upload that has the most.
func (c *Captures) longest(
	ctx context.Context,
	b *objectstore.Bucket,
	row store.Capture,
	ids []string,
) (best string, most []objectstore.Part, err error) {
	for _, id := range ids {
		var parts []objectstore.Part
		err := c.request(ctx, row.Tenant, func(ctx context.Context) (err error) {
			parts, err = b.Parts(ctx, row.Key, id)
			return err
		})
		if errors.Is(err, objectstore.ErrNoUpload) {
			continue
		}
		if err != nil {
			return "", nil, err
		}
		if parts = unbroken(parts); sizeOf(parts) > sizeOf(most) {
			best = id
			most = parts
		}
	}
	return best, most, nil
}

// unbroken leaves the parts that follow one another from the first.
func unbroken(parts []objectstore.Part) []objectstore.Part {
	for i, p := range parts {
		if p.Number != i+1 {
			return parts[:i]
		}
	}
	return parts
}

// settle writes the row's end, by what is in the bucket.
func (c *Captures) settle(ctx context.Context, b *objectstore.Bucket, row store.Capture) error {
	ok, size, err := c.inspect(ctx, b, row.Tenant, row.Key, -1)
	if err != nil {
		return fmt.Errorf("look at the object: %w", err)
	}
	end := store.CaptureEnd{Size: size}
	outcome := outcomeUploaded
	switch {
	case !ok && size > 0:
		if err := c.request(
			ctx, row.Tenant, func(ctx context.Context) error { return b.Remove(ctx, row.Key) },
		); err != nil {
			return fmt.Errorf("remove what was sent of the object: %w", err)
		}
		fallthrough
	case !ok:
		outcome = outcomeFailed
		end = store.CaptureEnd{
			Failed:  true,
			Code:    reason.PodLost,
			Message: "the call was captured, and its pod was gone before any of it was in the bucket",
		}
	case size < 0:
		outcome = outcomeCut
		end = store.CaptureEnd{Size: -size, Code: reason.PodLost, Message: messagePodLost}
	}
	if checksum := b.Checksum(); ok && !checksum.Sent() && checksum != objectstore.ChecksumETag {
		end.Message = joined(end.Message, messageUnverified)
		if outcome == outcomeUploaded {
			outcome = outcomeUnverified
		}
		c.warnUnverified(row.CaptureRef, row.Session)
	}
	switch err := c.o.Store.FinishCapture(ctx, row.CaptureRef, c.o.Pod, end); {
	case errors.Is(err, store.ErrLeaseLost):
		return nil
	case err != nil:
		return fmt.Errorf("write the capture's end: %w", err)
	}
	c.m.bytes.Add(float64(end.Size))
	c.m.ended(outcome)
	c.o.Log.Info("ended the capture of a pod that is gone",
		"tenant", row.Tenant,
		"session", row.Session,
		"call", row.CallSID,
		"failed", end.Failed,
		"bytes", end.Size,
	)
	return nil
}

// inspect tells whether the object is a whole file: of the size that is wanted or, with want -1, of the one that its header says. Then a
// negative size is that of a file whose header says none.
func (c *Captures) inspect(
	ctx context.Context,
	b *objectstore.Bucket,
	tenant, key string,
	want int64,
) (ok bool, size int64, err error) {
	var info objectstore.Info
	err = c.request(ctx, tenant, func(ctx context.Context) (err error) {
		info, err = b.Stat(ctx, key)
		return err
	})
	if errors.Is(err, objectstore.ErrNotFound) {
		return false, 0, nil
	}
	if err != nil {
		return false, 0, err
	}
	if want >= 0 {
		return info.Size == want, info.Size, nil
	}
	var head []byte
	err = c.request(ctx, tenant, func(ctx context.Context) (err error) {
		head, err = b.Head(ctx, key, wav.HeaderSize)
		return err
	})
	if err != nil {
		return false, 0, err
	}
	data, known := wav.SizeOf(head)
	if !known {
		return info.Size > wav.HeaderSize, -info.Size, nil
	}
	return data+wav.HeaderSize == info.Size, info.Size, nil
}
