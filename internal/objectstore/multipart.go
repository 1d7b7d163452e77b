package objectstore

import (
	"context"
	"crypto/md5" //nolint:gosec // it is what S3 compares a part with
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"github.com/minio/minio-go/v7"

	"github.com/caly-dev/caly/internal/resilience"
)

// ErrNoUpload : there is no such upload in parts. It was completed, or given up.
var ErrNoUpload = errors.New("no such upload in parts")

// Part of an upload in parts.
type Part struct {
	// Number counts from 1.
	Number int
	Size   int64
	ETag   string
}

// MaxParts of an upload.
const MaxParts = maxParts

// BeginUpload begins an upload in parts and returns its id. Whoever begins one completes or aborts it.
func (b *Bucket) BeginUpload(ctx context.Context, key, contentType string) (id string, err error) {
	id, err = b.core.NewMultipartUpload(ctx, b.name, key, putOptions(contentType, nil))
	return id, b.explainUpload(err)
}

// PutPart sends a part, which takes the place of one with its number, and has the store compare it with its MD5. It reads r twice. All
// parts but the last have PartSize bytes.
func (b *Bucket) PutPart(ctx context.Context, key, id string, number int, r io.ReadSeeker, size int64) error {
	sum := md5.New() //nolint:gosec // see above
	if _, err := io.Copy(sum, io.LimitReader(r, size)); err != nil {
		return fmt.Errorf("read part %d: %w", number, err)
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read part %d again: %w", number, err)
	}
	_, err := b.core.PutObjectPart(ctx, b.name, key, id, number, io.LimitReader(r, size), size,
		minio.PutObjectPartOptions{Md5Base64: base64.StdEncoding.EncodeToString(sum.Sum(nil)), DisableContentSha256: true})
	return b.explainUpload(err)
}

// maxPartPages bounds the listing of an upload's parts.
const maxPartPages = 100

var errParts = resilience.Abort(errors.New("the store lists more parts than an upload has"))

// Parts lists what is there of an upload, in its order.
func (b *Bucket) Parts(ctx context.Context, key, id string) (parts []Part, err error) {
	marker := 0
	for range maxPartPages {
		page, err := b.core.ListObjectParts(ctx, b.name, key, id, marker, 1000)
		if err != nil {
			return nil, b.explainUpload(err)
		}
		for _, p := range page.ObjectParts {
			parts = append(parts, Part{Number: p.PartNumber, Size: p.Size, ETag: p.ETag})
		}
		if len(parts) > MaxParts {
			return nil, errParts
		}
		if !page.IsTruncated || page.NextPartNumberMarker <= marker {
			return parts, nil
		}
		marker = page.NextPartNumberMarker
	}
	return nil, errParts
}

// CompleteUpload makes an object of the parts. After a lost answer ErrNoUpload may mean that it was done.
func (b *Bucket) CompleteUpload(ctx context.Context, key, id string, parts []Part) error {
	list := make([]minio.CompletePart, 0, len(parts))
	for _, p := range parts {
		list = append(list, minio.CompletePart{PartNumber: p.Number, ETag: p.ETag})
	}
	_, err := b.core.CompleteMultipartUpload(ctx, b.name, key, id, list, minio.PutObjectOptions{})
	return b.explainUpload(err)
}

// AbortUpload gives an upload up; it need not be there.
func (b *Bucket) AbortUpload(ctx context.Context, key, id string) error { return b.abort(ctx, key, id) }

// maxUploads of one key. A capture that is tried again leaves one behind now and then.
const maxUploads = 100

// Uploads lists the ids of the uploads in parts of a key that are neither completed nor given up, at most maxUploads.
func (b *Bucket) Uploads(ctx context.Context, key string) (ids []string, err error) {
	page, err := b.core.ListMultipartUploads(ctx, b.name, key, "", "", "", 1000)
	if err != nil {
		return nil, b.explain(err)
	}
	for _, u := range page.Uploads {
		if u.Key == key && len(ids) < maxUploads {
			ids = append(ids, u.UploadID)
		}
	}
	return ids, nil
}

// Head reads the first n bytes of an object.
func (b *Bucket) Head(ctx context.Context, key string, n int64) ([]byte, error) {
	body, err := b.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	data, err := io.ReadAll(io.LimitReader(body, n))
	if err != nil {
		return nil, b.explain(err)
	}
	return data, nil
}

func (b *Bucket) explainUpload(err error) error {
	err = b.explain(err)
	var answer *resilience.HTTPError
	if errors.As(err, &answer) && answer.Code == "NoSuchUpload" {
		return ErrNoUpload
	}
	return err
}
