package objectstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/minio/minio-go/v7"
)

// maxParts is S3's bound.
const maxParts = 10000

// Put uploads size bytes of r, or with size -1 all of it, and returns the ETag without quotes. When it fails, nothing of
// an upload in parts is left behind; whether a single PUT arrived is unknown, and some stores keep the beginning of a
// broken one as an object: only Stat, compared with the caller's own digest, tells.
func (b *Bucket) Put(ctx context.Context, key string, r io.Reader, size int64, contentType string, meta map[string]string) (string, error) {
	if size < 0 {
		return b.putUnknown(ctx, key, r, contentType, meta)
	}
	return b.putKnown(ctx, key, r, size, contentType, meta)
}

func (b *Bucket) putKnown(ctx context.Context, key string, r io.Reader, size int64, contentType string, meta map[string]string) (string, error) {
	info, err := b.core.Client.PutObject(ctx, b.name, key, r, size, putOptions(contentType, meta))
	if err != nil {
		return "", b.explain(err)
	}
	return info.ETag, nil
}

// putOptions sign the headers and not the body: the caller compares the ETag with its own digest, which covers the way from
// end to end, and a signed body would be hashed once more.
func putOptions(contentType string, meta map[string]string) minio.PutObjectOptions {
	return minio.PutObjectOptions{ContentType: contentType, UserMetadata: meta, DisableMultipart: true, DisableContentSha256: true}
}

// putUnknown reads one part ahead. What fits in it goes out as a single PUT.
func (b *Bucket) putUnknown(ctx context.Context, key string, r io.Reader, contentType string, meta map[string]string) (string, error) {
	buf, err := b.takeBuffer(ctx)
	if err != nil {
		return "", err
	}
	defer func() { b.buffers <- buf }()
	n, err := fill(r, buf)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if errors.Is(err, io.EOF) {
		return b.putKnown(ctx, key, bytes.NewReader(buf[:n]), int64(n), contentType, meta)
	}
	id, err := b.core.NewMultipartUpload(ctx, b.name, key, putOptions(contentType, meta))
	if err != nil {
		return "", b.explain(err)
	}
	etag, err := b.putParts(ctx, key, id, r, buf)
	if err != nil {
		return "", errors.Join(err, b.abort(ctx, key, id))
	}
	return etag, nil
}

func (b *Bucket) takeBuffer(ctx context.Context) ([]byte, error) {
	select {
	case buf := <-b.buffers:
		if buf == nil {
			buf = make([]byte, PartSize)
		}
		return buf, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// putParts uploads buf, which is full, and whatever r still has.
func (b *Bucket) putParts(ctx context.Context, key, id string, r io.Reader, buf []byte) (string, error) {
	var parts []minio.CompletePart
	n, last := len(buf), false
	for number := 1; n > 0; number++ {
		if number > maxParts {
			return "", fmt.Errorf("the object is longer than %d parts of %d bytes", maxParts, PartSize)
		}
		p, err := b.core.PutObjectPart(ctx, b.name, key, id, number, bytes.NewReader(buf[:n]), int64(n), minio.PutObjectPartOptions{DisableContentSha256: true})
		if err != nil {
			return "", b.explain(err)
		}
		parts = append(parts, minio.CompletePart{PartNumber: number, ETag: p.ETag})
		if last {
			break
		}
		n, err = fill(r, buf)
		if last = errors.Is(err, io.EOF); err != nil && !last {
			return "", err
		}
	}
	info, err := b.core.CompleteMultipartUpload(ctx, b.name, key, id, parts, minio.PutObjectOptions{})
	if err != nil {
		return "", b.explain(err)
	}
	return info.ETag, nil
}

// fill reads until buf is full. io.EOF means that r has ended, with n bytes read before.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	return n, err
}

// abort gives up an upload in parts even though ctx may have ended: what is left of it would be paid for, unseen.
func (b *Bucket) abort(ctx context.Context, key, id string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := b.explain(b.core.AbortMultipartUpload(ctx, b.name, key, id))
	if err == nil || gone(err) {
		return nil
	}
	return fmt.Errorf("abort the upload in parts: %w", err)
}
