package objectstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/minio/minio-go/v7"
)

// errPrefix guards against a caller's empty string, which would mean the whole bucket.
var errPrefix = errors.New("refused to clean up a whole bucket: a prefix is needed")

// AbortIncomplete gives up every upload in parts that was begun under the prefix and not completed.
func (b *Bucket) AbortIncomplete(ctx context.Context, prefix string) error {
	if prefix == "" {
		return errPrefix
	}
	var keyMarker, idMarker string
	for {
		page, err := b.core.ListMultipartUploads(ctx, b.name, prefix, keyMarker, idMarker, "", 1000)
		if err != nil {
			return b.explain(err)
		}
		for _, u := range page.Uploads {
			if err := b.abort(ctx, u.Key, u.UploadID); err != nil {
				return err
			}
		}
		if !page.IsTruncated || page.NextKeyMarker == "" {
			return nil
		}
		keyMarker, idMarker = page.NextKeyMarker, page.NextUploadIDMarker
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

// DeletePrefix removes every object under the prefix and returns how many. It may be called again after a failure.
func (b *Bucket) DeletePrefix(ctx context.Context, prefix string) (n int, err error) {
	if prefix == "" {
		return 0, errPrefix
	}
	ctx, stop := context.WithCancel(ctx) // ends the listing when a deletion fails
	defer stop()
	batch := make([]minio.ObjectInfo, 0, deleteBatch)
	for o := range b.core.Client.ListObjects(ctx, b.name, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if o.Err != nil {
			return n, b.explain(o.Err)
		}
		if batch = append(batch, o); len(batch) == deleteBatch {
			done, err := b.deleteObjects(ctx, batch)
			if n += done; err != nil {
				return n, err
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

func (b *Bucket) deleteObjects(ctx context.Context, objects []minio.ObjectInfo) (n int, err error) {
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
			err = fmt.Errorf("delete %s: %w", r.ObjectName, b.explain(r.Err))
		}
	}
	return n, err
}
