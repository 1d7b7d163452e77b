package objectstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/caly-dev/caly/internal/resilience"
)

// maxParts is S3's bound.
const maxParts = 10000

// Object is what Put stores.
type Object struct {
	Key, ContentType string
	// Body is read to its end, or for Size bytes.
	Body io.Reader
	// Size of the body; -1 if it is unknown.
	Size int64
	// Meta is user metadata. Values that are not plain ASCII are sent percent-encoded.
	Meta map[string]string
	// WholeMeta returns more of it, of a body that fits in a part. It is asked before the body is sent; nil means that
	// there is no more.
	WholeMeta func(body []byte) map[string]string
	// Sums returns the digests of what was read of the body. It is asked before a body that fits in a part is sent; nil
	// means that Put computes what the bucket's checksum needs.
	Sums func() Sums
	// Progress is called whenever the store takes bytes of a body that was read, and says whether there are more; nil:
	// nothing is called.
	Progress func(more bool)
}

// Put uploads an object and returns its ETag without quotes. A body that fits in a part is read before it is sent, so
// that its digests go along; a longer one is sent in parts, or as it is read if no checksum is sent and its length is
// known. When Put fails, nothing of an upload in parts is left behind; whether a single PUT arrived is unknown, and
// some stores keep the beginning of a broken one as an object: only Stat, compared with the caller's own digest, tells.
func (b *Bucket) Put(ctx context.Context, o Object) (etag string, err error) {
	if o.Size > PartSize && !b.checksum.Sent() {
		return b.putStream(ctx, &o)
	}
	size := int64(PartSize)
	if o.Size >= 0 {
		size = min(size, o.Size)
	}
	buf, err := b.takeBuffer(ctx, int(size))
	if err != nil {
		return "", err
	}
	defer func() { b.buffers <- buf }()
	n, err := fill(o.Body, buf[:size])
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return "", err
	case int64(n) < o.Size && int64(n) < size:
		return "", fmt.Errorf("the body ended after %d of %d bytes: %w", n, o.Size, io.ErrUnexpectedEOF)
	case errors.Is(err, io.EOF), int64(n) == o.Size:
		return b.putWhole(ctx, &o, buf[:n])
	}
	return b.putLong(ctx, &o, buf)
}

// putStream sends a body of known length as it is read, without a checksum.
func (b *Bucket) putStream(ctx context.Context, o *Object) (string, error) {
	info, err := b.core.PutObject(ctx, b.name, o.Key, o.Body, o.Size, "", "", b.putOptions(o, Sums{}))
	if err != nil {
		return "", b.explain(err)
	}
	return info.ETag, b.named(info.ETag)
}

// putWhole sends a body that was read.
func (b *Bucket) putWhole(ctx context.Context, o *Object, data []byte) (string, error) {
	var sums Sums
	if o.Sums != nil {
		sums = o.Sums()
	} else {
		sums = b.checksum.sumsOf(data)
	}
	if b.checksum == ChecksumCRC64NVME && len(sums.CRC64NVME) == 0 {
		sums.CRC64NVME = b.checksum.sumsOf(data).CRC64NVME
	}
	sent := b.checksum.sent(sums)
	opts := b.putOptions(o, sums)
	if o.WholeMeta != nil {
		addMeta(opts.UserMetadata, o.WholeMeta(data))
	}
	sent.addTo(&opts)
	piece := newPiece(data, o.Progress)
	defer piece.close()
	info, err := b.core.PutObject(ctx, b.name, o.Key, piece, int64(len(data)), sent.md5, "", opts)
	if err != nil {
		return "", b.explain(err)
	}
	if err := b.named(info.ETag); err != nil {
		return "", err
	}
	return info.ETag, sent.confirm(info.ChecksumSHA256, info.ChecksumCRC64NVME)
}

var errNoETag = errors.New("the answer to a PUT has no ETag")

// named returns an error unless the answer to a PUT has an ETag. S3 always sends one, for parts too. A portal or a
// proxy may answer 200 to everything.
func (b *Bucket) named(etag string) error {
	if etag == "" {
		return &NoAnswerError{Host: b.host, cause: resilience.Retryable(errNoETag)}
	}
	return nil
}

// putLong sends a body in parts. buf is full.
func (b *Bucket) putLong(ctx context.Context, o *Object, buf []byte) (string, error) {
	id, err := b.begin(ctx, o)
	if err != nil {
		return "", err
	}
	etag, err := b.putParts(ctx, o, id, buf)
	if err != nil {
		return "", errors.Join(err, b.abort(ctx, o.Key, id))
	}
	return etag, nil
}

// begin begins an upload in parts.
func (b *Bucket) begin(ctx context.Context, o *Object) (id string, err error) {
	opts := b.putOptions(o, Sums{})
	if b.checksum.inHeader() {
		opts.UserMetadata[headerAlgorithm] = string(b.checksum)
	}
	id, err = b.core.NewMultipartUpload(ctx, b.name, o.Key, opts)
	return id, b.explainBegin(err)
}

// explainBegin explains the error of a request that begins an upload in parts. The request names no object and no
// upload that could be missing. Some stores, and proxies before them, answer 404, 405 or 501 without words of S3.
func (b *Bucket) explainBegin(err error) error {
	explained := b.explain(err)
	var answer *resilience.HTTPError
	if !errors.As(err, &answer) || CauseOf(explained).Reason != "" {
		return explained
	}
	switch answer.Status {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		if errors.Is(explained, ErrNotFound) {
			explained = answer
		}
		return &noPartsError{explained}
	}
	return explained
}

// putOptions has what the bucket's configuration asks for. The signature covers the headers and not the body: the
// checksum does, or the caller compares the ETag with its own digest.
func (b *Bucket) putOptions(o *Object, sums Sums) minio.PutObjectOptions {
	meta := make(map[string]string, len(o.Meta)+2)
	addMeta(meta, o.Meta)
	if len(sums.SHA256) > 0 {
		meta[metaSHA256] = fmt.Sprintf("%x", sums.SHA256)
	}
	return minio.PutObjectOptions{
		ContentType:          o.ContentType,
		UserMetadata:         meta,
		UserTags:             b.options.Tags,
		ServerSideEncryption: b.encryption,
		StorageClass:         b.options.StorageClass,
		DisableContentSha256: true,
	}
}

func addMeta(to, from map[string]string) {
	for name, value := range from {
		to[name] = ascii(value)
	}
}

// ascii returns a value that a header can carry as it is.
func ascii(value string) string {
	for _, r := range value {
		if r <= ' ' || r > '~' {
			return url.PathEscape(value)
		}
	}
	return value
}

// metaSHA256 is the name of the metadata with the SHA-256 of the object, in hex. An object that was sent in parts has
// none, since metadata is sent first.
const metaSHA256 = "sha256"

// takeBuffer returns a buffer of at least a size, and waits while all are in use.
func (b *Bucket) takeBuffer(ctx context.Context, size int) ([]byte, error) {
	select {
	case buf := <-b.buffers:
		if cap(buf) < size {
			buf = make([]byte, min((size/bufferStep+1)*bufferStep, PartSize))
		}
		return buf[:cap(buf)], nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// bufferStep is what the sizes of buffers are multiples of.
const bufferStep = 256 << 10

// putParts uploads buf, which is full, and whatever the body still has.
func (b *Bucket) putParts(ctx context.Context, o *Object, id string, buf []byte) (string, error) {
	var parts []minio.CompletePart
	n := len(buf)
	last := false
	total := int64(0)
	for number := 1; n > 0; number++ {
		if number > maxParts {
			return "", fmt.Errorf("the object is longer than %d parts of %d bytes", maxParts, PartSize)
		}
		completePart, err := b.putPart(ctx, o, id, number, buf[:n])
		if err != nil {
			return "", err
		}
		parts = append(parts, completePart)
		total += int64(n)
		if last {
			break
		}
		n, err = fill(o.Body, buf)
		if last = errors.Is(err, io.EOF); err != nil && !last {
			return "", err
		}
	}
	if o.Size >= 0 && total != o.Size {
		return "", fmt.Errorf("the body has %d bytes and not %d: %w", total, o.Size, io.ErrUnexpectedEOF)
	}
	info, err := b.core.CompleteMultipartUpload(ctx, b.name, o.Key, id, parts, minio.PutObjectOptions{})
	if err != nil {
		return "", b.explain(err)
	}
	return info.ETag, nil
}

func (b *Bucket) putPart(ctx context.Context, o *Object, id string, number int, data []byte) (minio.CompletePart,
	error) {
	sent := b.checksum.sent(b.checksum.sumsOf(data))
	piece := newPiece(data, o.Progress)
	defer piece.close()
	objectPart, err := b.core.PutObjectPart(ctx, b.name, o.Key, id, number, piece, int64(len(data)), sent.part())
	if err != nil {
		return minio.CompletePart{}, b.explain(err)
	}
	if err := b.named(objectPart.ETag); err != nil {
		return minio.CompletePart{}, err
	}
	return sent.completed(number, objectPart.ETag), sent.confirm(
		objectPart.ChecksumSHA256, objectPart.ChecksumCRC64NVME,
	)
}

// piece is a body in memory. An HTTP transport may go on reading it after its call has returned; a closed piece ends
// that, so that the memory can be used again.
type piece struct {
	mu       sync.Mutex
	r        *bytes.Reader
	progress func(more bool)
	closed   bool
}

func newPiece(data []byte, progress func(more bool)) *piece {
	if progress == nil {
		progress = func(bool) {}
	}
	return &piece{r: bytes.NewReader(data), progress: progress}
}

var errPieceClosed = errors.New("the request has ended")

// Read implements io.Reader.
func (p *piece) Read(buf []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, errPieceClosed
	}
	n, err := p.r.Read(buf)
	p.progress(p.r.Len() > 0)
	return n, err
}

func (p *piece) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
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
