package objectstore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/minio/minio-go/v7"

	"github.com/caly-dev/caly/internal/resilience"
)

// ErrNoUpload means that the upload in parts does not exist. It was completed or aborted.
var ErrNoUpload = errors.New("no such upload in parts")

// Part of an upload in parts.
type Part struct {
	// Number counts from 1.
	Number int
	Size   int64
	ETag   string
	// SHA256 and CRC64NVME in base64, as the store lists them, of an upload that was begun with such a checksum.
	SHA256, CRC64NVME string
}

// MaxParts of an upload.
const MaxParts = maxParts

// BeginUpload begins an upload in parts and returns its id. Its parts need the checksum that the bucket has now.
// Whoever begins one completes or aborts it.
func (b *Bucket) BeginUpload(ctx context.Context, o Object) (id string, err error) {
	return b.begin(ctx, &o)
}

// NewPart is a part of an upload to be sent. All parts but the last have PartSize bytes.
type NewPart struct {
	Key, UploadID string
	// Begun is the checksum that the upload was begun with.
	Begun  Checksum
	Number int
	// Body is read twice.
	Body io.ReadSeeker
	Size int64
}

// PutPart sends a part, which takes the place of one with its number, and has the store compare it with a digest: that
// which the upload was begun with, else its MD5. In a bucket with ChecksumETag the answer must name that MD5.
func (b *Bucket) PutPart(ctx context.Context, p NewPart) error {
	begun := p.Begun
	if !begun.inHeader() {
		begun = ChecksumMD5
	}
	sums, err := begun.readSums(p.Body, p.Size)
	if err != nil {
		return fmt.Errorf("read part %d: %w", p.Number, err)
	}
	sent := begun.sent(sums)
	body := io.LimitReader(p.Body, p.Size)
	answer, err := b.core.PutObjectPart(ctx, b.name, p.Key, p.UploadID, p.Number, body, p.Size, sent.part())
	if err != nil {
		return b.explainUpload(err)
	}
	if err := b.named(answer.ETag); err != nil {
		return err
	}
	if b.checksum == ChecksumETag && begun == ChecksumMD5 && answer.ETag != hex.EncodeToString(sums.MD5) {
		return resilience.Retryable(fmt.Errorf("the store has another part %d than was sent", p.Number))
	}
	return sent.confirm(answer.ChecksumSHA256, answer.ChecksumCRC64NVME)
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
			parts = append(parts, Part{
				Number:    p.PartNumber,
				Size:      p.Size,
				ETag:      p.ETag,
				SHA256:    p.ChecksumSHA256,
				CRC64NVME: p.ChecksumCRC64NVME,
			})
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
		list = append(list, minio.CompletePart{
			PartNumber:        p.Number,
			ETag:              p.ETag,
			ChecksumSHA256:    p.SHA256,
			ChecksumCRC64NVME: p.CRC64NVME,
		})
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
	body, err := b.get(ctx, key, n)
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
