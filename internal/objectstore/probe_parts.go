package objectstore

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/caly-dev/caly/internal/resilience"
)

// verifiesParts reports whether the store refuses a part whose checksum is wrong, takes it with the right one, and
// makes an object of it. That a store verifies objects says nothing about parts.
func (w *probeWrite) verifiesParts(ctx context.Context, c Checksum) (ok bool, err error) {
	b := *w.b
	b.checksum = c
	w.abortOthers(ctx)
	id, err := w.begin(ctx, &b)
	if err != nil {
		return false, orUnsupported(err)
	}
	defer func() {
		if !ok {
			_ = b.abort(ctx, w.key, id) // what stays is ended by the next probe
		}
	}()
	if _, err := w.part(ctx, &b, id, []byte("another body")); err == nil || !unsupported(err) {
		return false, err
	}
	part, err := w.part(ctx, &b, id, w.content)
	if err != nil {
		return false, orUnsupported(err)
	}
	info, err := b.core.CompleteMultipartUpload(ctx, b.name, w.key, id, []minio.CompletePart{part},
		minio.PutObjectOptions{})
	if err != nil {
		return false, orUnsupported(b.explain(err))
	}
	w.wrote = append(w.wrote, info.VersionID)
	return true, nil
}

// beginAgainAfter is the time between two requests that begin an upload in parts.
var beginAgainAfter = 3 * time.Second

// begin begins an upload in parts. An ingress that is being replaced also answers without a code of S3, for a moment,
// and what a probe finds out is believed for a day. So such an answer counts if the store gives it twice.
func (w *probeWrite) begin(ctx context.Context, b *Bucket) (id string, err error) {
	object := &Object{Key: w.key, ContentType: "text/plain"}
	id, err = b.begin(ctx, object)
	var (
		noParts *noPartsError
		answer  *resilience.HTTPError
	)
	if w.noParts || !errors.As(err, &noParts) || !errors.As(err, &answer) || answer.Code != "" {
		return id, err
	}
	select {
	case <-ctx.Done():
		return "", b.explain(ctx.Err())
	case <-time.After(beginAgainAfter):
	}
	id, err = b.begin(ctx, object)
	w.noParts = errors.As(err, &noParts)
	return id, err
}

// part sends the content as a part, with the checksum of a body.
func (w *probeWrite) part(ctx context.Context, b *Bucket, id string, body []byte) (minio.CompletePart, error) {
	sent := b.checksum.sent(b.checksum.sumsOf(body))
	objectPart, err := b.core.PutObjectPart(
		ctx, b.name, w.key, id, 1, bytes.NewReader(w.content), int64(len(w.content)), sent.part(),
	)
	if err == nil && b.checksum == ChecksumMD5 {
		w.etag = objectPart.ETag
	}
	return sent.completed(1, objectPart.ETag), b.explainUpload(err)
}

// partETag returns the ETag that the store gives a part with the content, empty if it takes no parts. That the ETag of
// an object is its MD5 says nothing about parts.
func (w *probeWrite) partETag(ctx context.Context) (etag string, err error) {
	if w.etag != "" {
		return w.etag, nil
	}
	b := *w.b
	b.checksum = ChecksumMD5 // captures send it with each part
	w.abortOthers(ctx)
	id, err := w.begin(ctx, &b)
	if err != nil {
		return "", orUnsupported(err)
	}
	defer func() { _ = b.abort(ctx, w.key, id) }() // what stays is ended by the next probe
	_, err = w.part(ctx, &b, id, w.content)
	return w.etag, orUnsupported(err)
}

// abortOthers ends the uploads in parts that a crash of an earlier probe has left. A key may have no right to list
// them.
func (w *probeWrite) abortOthers(ctx context.Context) {
	ids, err := w.b.Uploads(ctx, w.key)
	for _, id := range ids {
		if err == nil {
			err = w.b.abort(ctx, w.key, id)
		}
	}
}

// orUnsupported returns nil for an error that says that the store does not support the request.
func orUnsupported(err error) error {
	if unsupported(err) {
		return nil
	}
	return err
}
