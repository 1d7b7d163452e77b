// Package objectstore is the one bucket that a tenant's recordings go to, on any S3 service.
//
// It streams: an object of known length goes out in one PUT straight from its reader, one of unknown length in parts through
// a buffer from a bounded pool. It never tries again by itself, since a stream cannot be replayed: its errors are
// *resilience.HTTPError or network errors, for package resilience to judge.
package objectstore

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/encrypt"

	"github.com/caly-dev/caly/internal/bounded"
	"github.com/caly-dev/caly/internal/contentrange"
)

// PartSize is how long each part of an upload of unknown length is, but the last. S3 allows no less than 5 MiB; more
// would be memory.
const PartSize = 5 << 20

// partBuffers bounds the memory of uploads for each Bucket, unless its Config says otherwise.
const partBuffers = 4

// Addressing is where requests have the bucket's name.
type Addressing string

// Ways of addressing. Auto has it in the host name for Amazon, Alibaba and Google, and in the path for all others.
const (
	AddressingAuto        Addressing = "Auto"
	AddressingPath        Addressing = "Path"
	AddressingVirtualHost Addressing = "VirtualHost"
)

var lookups = map[Addressing]minio.BucketLookupType{
	AddressingPath:        minio.BucketLookupPath,
	AddressingVirtualHost: minio.BucketLookupDNS,
}

// Encryption is what objects are encrypted with.
type Encryption string

// Encryptions at the store. Without one the bucket's default counts.
const (
	EncryptionS3  Encryption = "SSE-S3"
	EncryptionKMS Encryption = "SSE-KMS"
)

// Config names a bucket and how to get in.
type Config struct {
	// Endpoint is a URL: https://host[:port].
	Endpoint, Region             string
	AccessKeyID, SecretAccessKey string
	// SessionToken is needed with temporary credentials.
	SessionToken string
	// Current returns the credentials of each request, in place of those above; nil: they do not change.
	Current func() Keys
	// Renewed means that the operator replaces the credentials before they expire.
	Renewed bool
	Bucket  string
	Options
	// Buffers is how many bodies are in memory at once at most, each of at most PartSize bytes. 0 means 4.
	Buffers int
}

// Options of a bucket. The zero value is right for most.
type Options struct {
	Addressing Addressing `json:"addressing,omitempty"`
	// DualStack uses Amazon's addresses for IPv4 and IPv6.
	DualStack bool `json:"dualStack,omitempty"`
	// Encryption of objects, and KMSKeyID with EncryptionKMS; without one it is the account's own key.
	Encryption Encryption `json:"encryption,omitempty"`
	KMSKeyID   string     `json:"kmsKeyID,omitempty"`
	// StorageClass of objects; empty for the store's default.
	StorageClass string `json:"storageClass,omitempty"`
	// Tags of objects.
	Tags map[string]string `json:"tags,omitempty"`
	// PublicEndpoint is the URL under which people reach the store, for links; empty: Endpoint.
	PublicEndpoint string `json:"publicEndpoint,omitempty"`
	// CABundle are the authorities, in PEM, that may sign the store's certificate; empty: those that the system trusts.
	CABundle string `json:"caBundle,omitempty"`
	// Checksum that the bucket supports; empty while that is unknown.
	Checksum Checksum `json:"checksum,omitempty"`
}

// Bucket is safe for concurrent use.
type Bucket struct {
	core    minio.Core
	name    string
	host    string
	region  string
	options Options
	// checksum is that of the options, but while a probe tries others.
	checksum   Checksum
	renewed    bool // Config.Renewed
	encryption encrypt.ServerSide
	buffers    chan []byte
}

// ErrNotFound means that the object does not exist.
var ErrNotFound = errors.New("no such object")

// Info is what the store says of an object.
type Info struct {
	Size int64
	// ETag without quotes. The object's MD5 in hex, unless it was uploaded in parts or the store encrypts with keys of its own.
	ETag string
	// SHA256 that the store has verified, in hex; empty if it does not say.
	SHA256 string
	// Meta is the user metadata, its keys in the form of HTTP headers.
	Meta map[string]string
	// Multipart reports whether the ETag is that of an upload in parts.
	Multipart bool
}

// New returns a bucket; it makes no connection. A nil transport stands for one with an empty Policy.
func New(c Config, transport *Transport) (*Bucket, error) {
	if transport == nil {
		transport = NewTransport(Policy{}, 64)
	}
	transport, err := transport.trusting(c.CABundle)
	if err != nil {
		return nil, err
	}
	core, err := newCore(c, transport)
	if err != nil {
		return nil, err
	}
	if err := transport.check(core.EndpointURL()); err != nil {
		return nil, err
	}
	b := &Bucket{
		core:     *core,
		name:     c.Bucket,
		host:     core.EndpointURL().Host,
		region:   region(c.Region),
		options:  c.Options,
		checksum: c.Checksum,
		renewed:  c.Renewed,
	}
	if b.encryption, err = encryption(c.Options); err != nil {
		return nil, err
	}
	if c.Buffers == 0 {
		c.Buffers = partBuffers
	}
	b.buffers = make(chan []byte, c.Buffers)
	for range c.Buffers {
		b.buffers <- nil // made when first needed
	}
	return b, nil
}

// Checksum returns how the bucket makes sure that it keeps what was sent; empty while that is unknown.
func (b *Bucket) Checksum() Checksum { return b.checksum }

func encryption(o Options) (encrypt.ServerSide, error) {
	switch o.Encryption {
	case "":
		return nil, nil //nolint:nilnil // no encryption is asked for
	case EncryptionS3:
		return encrypt.NewSSE(), nil
	case EncryptionKMS:
		return encrypt.NewSSEKMS(o.KMSKeyID, nil)
	}
	return nil, fmt.Errorf("the encryption %q is not %s or %s", o.Encryption, EncryptionS3, EncryptionKMS)
}

func newCore(c Config, transport http.RoundTripper) (*minio.Core, error) {
	address, err := url.Parse(c.Endpoint)
	if err != nil || address.Host == "" || (address.Scheme != "https" && address.Scheme != "http") ||
		(address.Path != "" && address.Path != "/") {
		return nil, errors.New(
			"the S3 endpoint must be a URL without a path, such as https://s3.ap-southeast-1.wasabisys.com",
		)
	}
	if c.Bucket == "" {
		return nil, errors.New("no bucket is named")
	}
	creds := credentials.NewStaticV4(c.AccessKeyID, c.SecretAccessKey, c.SessionToken)
	if c.Current != nil {
		creds = credentials.New(current(c.Current))
	}
	core, err := minio.NewCore(address.Host, &minio.Options{
		Creds:        creds,
		Secure:       address.Scheme == "https",
		Region:       region(c.Region),
		BucketLookup: lookups[c.Addressing],
		Transport:    transport,
		MaxRetries:   1, // package resilience retries, with one budget for all
	})
	if err != nil {
		return nil, fmt.Errorf("S3 client for %s: %w", address.Host, err)
	}
	// The client replaces Amazon's host names by those for both families of addresses unless it is told otherwise, and a
	// gateway endpoint or a firewall for the plain ones does not let these pass.
	core.SetS3EnableDualstack(c.DualStack || strings.Contains(address.Host, ".dualstack."))
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
	objectInfo, err := b.core.StatObject(ctx, b.name, key, minio.StatObjectOptions{Checksum: b.checksum.inHeader()})
	if err != nil {
		return Info{}, b.withBody(ctx, key, b.explain(err))
	}
	return Info{
		Size:      objectInfo.Size,
		ETag:      objectInfo.ETag,
		SHA256:    hexOf(objectInfo.ChecksumSHA256),
		Meta:      objectInfo.UserMetadata,
		Multipart: isMultipart(objectInfo.ETag),
	}, nil
}

// hexOf turns a checksum in base64 into hex. That of an upload in parts is not the object's, and has another form.
func hexOf(checksum string) string {
	sum, err := base64.StdEncoding.DecodeString(checksum)
	if err != nil || len(sum) != sha256.Size {
		return ""
	}
	return hex.EncodeToString(sum)
}

// withBody asks for an object again if an answer without a body refused it, since only a body says why.
func (b *Bucket) withBody(ctx context.Context, key string, err error) error {
	var answer *AnswerError
	if !errors.As(err, &answer) || answer.Status >= http.StatusInternalServerError {
		return err
	}
	body, told := b.get(ctx, key, 0)
	if told == nil {
		_ = body.Close()
		return err
	}
	return told
}

// Get streams an object. ErrNotFound may come from the first Read.
func (b *Bucket) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	return b.get(ctx, key, -1)
}

// get streams an object. The caller wants at most so much of it, in bytes.
func (b *Bucket) get(ctx context.Context, key string, most int64) (io.ReadCloser, error) {
	body, _, _, err := b.core.GetObject(withObject(ctx, most), b.name, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, b.explain(err)
	}
	return body, nil
}

// ReadRange writes a range of an object to w. A store that ignores the range sends what is before it too. An answer
// with another range is an error, and nothing of it is written.
func (b *Bucket) ReadRange(ctx context.Context, key string, from, size int64, w io.Writer) error {
	var opts minio.GetObjectOptions
	if err := opts.SetRange(from, from+size-1); err != nil {
		return err
	}
	body, _, header, err := b.core.GetObject(withObject(ctx, -1), b.name, key, opts)
	if err != nil {
		return b.explain(err)
	}
	defer func() { _ = body.Close() }()
	before := from // an answer without a range is the whole object
	if sent := header.Values("Content-Range"); len(sent) > 0 {
		before = 0
		if first, _, _, err := contentrange.Parse(sent[0]); err != nil || first != from {
			return b.explain(fmt.Errorf("the store sent the range %q in place of the one from byte %d",
				bounded.Text(sent[0], maxCode), from))
		}
	}
	if _, err := io.CopyN(io.Discard, body, before); err != nil {
		return b.explain(err)
	}
	_, err = io.CopyN(w, body, size)
	return b.explain(err)
}

// Digest reads at most most bytes of an object, and returns how many and their SHA-256 in hex. It makes a buffer of
// its own if buf is nil.
func (b *Bucket) Digest(ctx context.Context, key string, most int64, buf []byte) (n int64, sum string, err error) {
	readCloser, err := b.get(ctx, key, most)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = readCloser.Close() }()
	hash := sha256.New()
	n, err = io.CopyBuffer(struct{ io.Writer }{hash}, struct{ io.Reader }{io.LimitReader(readCloser, most)}, buf)
	return n, hex.EncodeToString(hash.Sum(nil)), b.explain(err)
}
