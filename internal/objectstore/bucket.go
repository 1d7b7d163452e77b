// Package objectstore is the one bucket that a tenant's recordings go to, on any S3 service.
//
// It streams: an object of known length goes out in one PUT straight from its reader, one of unknown length in parts through
// a buffer from a bounded pool. It never tries again by itself, since a stream cannot be replayed: its errors are
// *resilience.HTTPError or network errors, for package resilience to judge.
package objectstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// PartSize is how long each part of an upload of unknown length is, but the last. S3 allows no less than 5 MiB; more
// would be memory.
const PartSize = 5 << 20

// partBuffers bounds the memory of uploads of unknown length, for each Bucket. They are rare (Exotel sends a length), so
// further ones wait.
const partBuffers = 4

// Config names a bucket and how to get in.
type Config struct {
	// Endpoint is a URL: https://host[:port].
	Endpoint, Region             string
	AccessKeyID, SecretAccessKey string
	Bucket                       string
}

// Bucket is safe for concurrent use.
type Bucket struct {
	core    minio.Core
	name    string
	host    string
	region  string
	buffers chan []byte
}

// ErrNotFound : there is no such object.
var ErrNotFound = errors.New("no such object")

// Info is what the store says of an object.
type Info struct {
	Size int64
	// ETag without quotes. The object's MD5 in hex, unless it was uploaded in parts or the store encrypts with keys of its own.
	ETag string
	// Meta is the user metadata, its keys in the form of HTTP headers.
	Meta map[string]string
	// Multipart : the ETag is that of an upload in parts.
	Multipart bool
}

// New returns a bucket; it makes no connection. A nil transport stands for one with an empty Policy.
func New(c Config, transport *Transport) (*Bucket, error) {
	if transport == nil {
		transport = NewTransport(Policy{}, 64)
	}
	core, err := newCore(c, transport)
	if err != nil {
		return nil, err
	}
	if err := transport.check(core.EndpointURL()); err != nil {
		return nil, err
	}
	b := &Bucket{core: *core, name: c.Bucket, host: core.EndpointURL().Host,
		region: region(c.Region), buffers: make(chan []byte, partBuffers)}
	for range partBuffers {
		b.buffers <- nil // made when first needed
	}
	return b, nil
}

func newCore(c Config, transport http.RoundTripper) (*minio.Core, error) {
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") || (u.Path != "" && u.Path != "/") {
		return nil, errors.New("the S3 endpoint must be a URL without a path, such as https://s3.ap-southeast-1.wasabisys.com")
	}
	if c.Bucket == "" {
		return nil, errors.New("no bucket is named")
	}
	core, err := minio.NewCore(u.Host, &minio.Options{
		Creds:      credentials.NewStaticV4(c.AccessKeyID, c.SecretAccessKey, ""),
		Secure:     u.Scheme == "https",
		Region:     region(c.Region),
		Transport:  transport,
		MaxRetries: 1, // package resilience retries, with one budget for all
	})
	if err != nil {
		return nil, fmt.Errorf("S3 client for %s: %w", u.Host, err)
	}
	return core, nil
}

// region keeps the client from asking the service for a region, which most S3 services but Amazon's do not tell.
func region(r string) string {
	if r == "" {
		return "us-east-1"
	}
	return r
}

// Stat asks for an object's size and ETag.
func (b *Bucket) Stat(ctx context.Context, key string) (Info, error) {
	o, err := b.core.StatObject(ctx, b.name, key, minio.StatObjectOptions{})
	if err != nil {
		return Info{}, b.withBody(ctx, key, b.explain(err))
	}
	return Info{Size: o.Size, ETag: o.ETag, Meta: o.UserMetadata, Multipart: isMultipart(o.ETag)}, nil
}

// withBody asks for an object once more if an answer without a body refused it, since only a body says why.
func (b *Bucket) withBody(ctx context.Context, key string, err error) error {
	var answer *AnswerError
	if !errors.As(err, &answer) || answer.Status >= http.StatusInternalServerError {
		return err
	}
	body, told := b.Get(ctx, key)
	if told == nil {
		_ = body.Close()
		return err
	}
	return told
}

// Get streams an object. ErrNotFound may come from the first Read.
func (b *Bucket) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	body, _, _, err := b.core.GetObject(withObject(ctx), b.name, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, b.explain(err)
	}
	return body, nil
}

// Digest reads at most so many bytes of an object, and returns how many and their SHA-256 in hex. It makes a buffer of its own if buf is nil.
func (b *Bucket) Digest(ctx context.Context, key string, most int64, buf []byte) (n int64, sum string, err error) {
	r, err := b.Get(ctx, key)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = r.Close() }()
	h := sha256.New()
	n, err = io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{io.LimitReader(r, most)}, buf)
	return n, hex.EncodeToString(h.Sum(nil)), b.explain(err)
}
