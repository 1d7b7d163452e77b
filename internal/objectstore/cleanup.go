package objectstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/minio/minio-go/v7"
)

// errPrefix guards against a caller's empty string, which would mean the whole bucket.
var errPrefix = errors.New("refused to clean up a whole bucket: a prefix is needed")

// ErrUnfinished is the error of a cleanup that ended at its bounds: there is more to remove, and the next call
// removes it.
var ErrUnfinished = errors.New("there is more to remove than one cleanup removes")

// Bounds of one cleanup, so that a store whose listing has no end holds a worker for a short time only.
const (
	maxAborts  = 1000
	maxBatches = 20
	maxPages   = 2 * maxBatches
)

// AbortIncomplete gives up the uploads in parts that were begun under the prefix and not completed. It returns
// ErrUnfinished if it must be called again.
func (b *Bucket) AbortIncomplete(ctx context.Context, prefix string) error {
	if prefix == "" {
		return errPrefix
	}
	var keyMarker, idMarker string
	for aborted := 0; ; {
		page, err := b.core.ListMultipartUploads(ctx, b.name, prefix, keyMarker, idMarker, "", 1000)
		if err != nil {
			return b.explain(err)
		}
		for _, u := range page.Uploads {
			if aborted++; aborted > maxAborts {
				return ErrUnfinished
			}
			// abort goes on after the context's end
			if err := errors.Join(ctx.Err(), b.abort(ctx, u.Key, u.UploadID)); err != nil {
				return err
			}
		}
		if !page.IsTruncated || page.NextKeyMarker == "" {
			return nil
		}
		if len(page.Uploads) == 0 || page.NextKeyMarker == keyMarker && page.NextUploadIDMarker == idMarker {
			return ErrUnfinished // such a listing could go on for ever
		}
		keyMarker = page.NextKeyMarker
		idMarker = page.NextUploadIDMarker
	}
}

// Remove deletes an object; it need not be there.
func (b *Bucket) Remove(ctx context.Context, key string) error {
	err := b.explain(b.core.RemoveObject(ctx, b.name, key, minio.RemoveObjectOptions{}))
	if gone(err) {
		return nil
	}
	return err
}

// deleteBatch is how many objects S3 deletes in one request.
const deleteBatch = 1000

// DeletePrefix removes the objects under the prefix and returns how many. It may be called again after a failure,
// and must be after ErrUnfinished.
func (b *Bucket) DeletePrefix(ctx context.Context, prefix string) (n int, err error) {
	if prefix == "" {
		return 0, errPrefix
	}
	ctx, stop := context.WithCancel(ctx) // ends the listing when a deletion fails
	defer stop()
	batch := make([]minio.ObjectInfo, 0, deleteBatch)
	batches := 0
	for o := range b.core.Client.ListObjects(withRequests(ctx, maxPages), b.name,
		minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if o.Err != nil {
			return n, b.explain(o.Err)
		}
		if batch = append(batch, o); len(batch) == deleteBatch {
			done, err := b.deleteObjects(ctx, batch)
			if n += done; err != nil {
				return n, err
			}
			if batches++; batches == maxBatches {
				return n, ErrUnfinished
			}
			batch = batch[:0]
		}
	}
	if err := ctx.Err(); err != nil {
		return n, err
	}
	done, err := b.deleteObjects(ctx, batch)
	return n + done, err
}

// deleteObjects deletes a batch in one request or, where the store cannot do that, each object in a request of its own.
func (b *Bucket) deleteObjects(ctx context.Context, objects []minio.ObjectInfo) (n int, err error) {
	n, err = b.deleteTogether(ctx, objects)
	if CauseOf(err).Reason != NotSupported {
		return n, err
	}
	for n = range objects {
		if err := b.Remove(ctx, objects[n].Key); err != nil {
			return n, err
		}
	}
	return len(objects), nil
}

func (b *Bucket) deleteTogether(ctx context.Context, objects []minio.ObjectInfo) (n int, err error) {
	queue := make(chan minio.ObjectInfo, len(objects))
	for _, o := range objects {
		queue <- o
	}
	close(queue)
	for r := range b.core.RemoveObjectsWithResult(ctx, b.name, queue, minio.RemoveObjectsOptions{}) {
		switch {
		case r.Err == nil:
			n++
		case err == nil: // one is enough to say, and the channel must be drained
			err = fmt.Errorf("delete objects: %w", b.explain(r.Err)) // the name is the store's own words
		}
	}
	return n, err
}
