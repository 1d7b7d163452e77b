package objectstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/minio/minio-go/v7"

	"github.com/caly-dev/caly/internal/resilience"
)

// ProbeError says what is wrong with a bucket and what to do.
type ProbeError struct {
	Reason Reason
	// Stop reports that no retry helps until a person changes something.
	Stop    bool
	Message string
	err     error
}

// Error returns the message.
func (e *ProbeError) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *ProbeError) Unwrap() error { return e.err }

// Finding is what a probe found out about a bucket that works.
type Finding struct {
	// Checksum is the best one that the store verifies, or that can be compared.
	Checksum Checksum
	// Kept says why the object of the probe could not be deleted; empty if it was.
	Kept string
}

// Probe returns a *ProbeError unless the endpoint answers, knows the bucket, takes the credentials and lists objects.
// It lists one object rather than asking HEAD, which needs the same right, since only an answer with a body says what
// is wrong. It makes one request.
func (b *Bucket) Probe(ctx context.Context) error {
	ctx, stop := context.WithCancel(withListing(withRequests(ctx, 1))) // ends the listing after its first answer
	defer stop()
	first, found := <-b.core.Client.ListObjects(ctx, b.name, minio.ListObjectsOptions{MaxKeys: 1})
	if found && first.Err != nil && !errors.Is(first.Err, errRequests) { // a first page without a key is an answer too
		return b.probeError(b.explain(first.Err))
	}
	if found {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return b.probeError(&NoAnswerError{Host: b.host, cause: resilience.Retryable(err)})
	}
	return nil
}

// ProbeWrite does what uploads do: it writes a small object under the key, reads it back, compares it, and deletes it.
// It finds out which checksum the bucket supports, and tries the one of the bucket's options first. The key is always
// the same, so that a crash leaves one object at most, which the next probe replaces. It returns a *ProbeError.
func (b *Bucket) ProbeWrite(ctx context.Context, key string) (Finding, error) {
	var content [32]byte
	_, _ = rand.Read(content[:]) // never fails
	w := probeWrite{b: b, key: key, content: []byte(hex.EncodeToString(content[:]))}
	checksum, version, err := w.negotiate(ctx)
	if err != nil {
		return Finding{}, b.probeError(w.encryptionPolicy(ctx, err))
	}
	if err := w.readBack(ctx); err != nil {
		return Finding{}, b.probeError(err)
	}
	found := Finding{Checksum: checksum}
	if err := w.remove(ctx, version); err != nil {
		if CauseOf(err).Reason == "" {
			return Finding{}, b.probeError(err)
		}
		found.Kept = err.Error()
	}
	return found, nil
}

// errContent is the error of a store that does not return what it was sent.
var errContent = errors.New("the object was changed")

// probeWrite is one such probe.
type probeWrite struct {
	b       *Bucket
	key     string
	content []byte
}

// negotiate writes the object with the best checksum that works, and returns its version.
func (w *probeWrite) negotiate(ctx context.Context) (c Checksum, version string, err error) {
	known := w.b.options.Checksum
	if known != "" && !known.Sent() {
		if version, _, err = w.put(ctx, known, w.content); !unsupported(err) {
			return known, version, err
		}
	}
	// A checksum that is sent is tried with a wrong body each time: uploads rely on it, and another store may have
	// taken over the endpoint.
	order := []Checksum{ChecksumSHA256, ChecksumMD5}
	if known == ChecksumMD5 {
		slices.Reverse(order)
	}
	for _, c := range order {
		version, ok, err := w.verifies(ctx, c)
		if ok || err != nil {
			return c, version, err
		}
	}
	version, etag, err := w.put(ctx, ChecksumETag, w.content)
	if etag != hex.EncodeToString(ChecksumMD5.sumsOf(w.content).MD5) {
		return ChecksumNone, version, err
	}
	return ChecksumETag, version, err
}

// verifies reports whether the store refuses a body whose checksum is wrong, and takes it with the right one. A store
// that takes both ignores the checksum.
func (w *probeWrite) verifies(ctx context.Context, c Checksum) (version string, ok bool, err error) {
	_, _, err = w.put(ctx, c, []byte("another body"))
	if err == nil {
		return "", false, nil
	}
	if !unsupported(err) {
		return "", false, err
	}
	version, _, err = w.put(ctx, c, w.content)
	if unsupported(err) {
		return "", false, nil
	}
	return version, err == nil, err
}

// unsupported reports whether a store refused a request for what it carried, so that it may take it in another form.
func unsupported(err error) bool {
	var answer *AnswerError
	if !errors.As(err, &answer) {
		return false
	}
	switch CauseOf(err).Reason {
	case NotSupported, ObjectLocked:
		return true
	case "":
		return resilience.Classify(err) == resilience.Permanent
	}
	return false
}

// put writes the object with the checksum of a body, which may be another one.
func (w *probeWrite) put(ctx context.Context, c Checksum, body []byte) (version, etag string, err error) {
	sums := c.sumsOf(body)
	opts := w.b.putOptions(&Object{ContentType: "text/plain"}, Sums{})
	sha, md := c.headers(sums)
	if sha != "" {
		opts.UserMetadata[headerSHA256] = sha
	}
	info, err := w.b.core.PutObject(ctx, w.b.name, w.key, bytes.NewReader(w.content), int64(len(w.content)), md, "",
		opts)
	return info.VersionID, info.ETag, w.b.explain(err)
}

func (w *probeWrite) readBack(ctx context.Context) error {
	n, sum, err := w.b.Digest(ctx, w.key, int64(len(w.content))+1, nil)
	if err != nil {
		return fmt.Errorf("read the probe's object back: %w", err)
	}
	if want := sha256.Sum256(w.content); n != int64(len(w.content)) || sum != hex.EncodeToString(want[:]) {
		return fmt.Errorf("%w: %d bytes of %s are not the %d that were written", errContent, n, w.key, len(w.content))
	}
	return nil
}

// remove deletes the version that was written, so that a bucket with versions keeps nothing either.
func (w *probeWrite) remove(ctx context.Context, version string) error {
	err := w.b.explain(w.b.core.RemoveObject(ctx, w.b.name, w.key, minio.RemoveObjectOptions{VersionID: version}))
	if gone(err) {
		return nil
	}
	return err
}

// encryptionPolicy finds out whether a write was denied for its encryption, which no store says: one with another
// encryption passes then. It returns the error that explains the denial best.
func (w *probeWrite) encryptionPolicy(ctx context.Context, denied error) error {
	if CauseOf(denied).Reason != AccessDenied {
		return denied
	}
	for _, e := range []Encryption{EncryptionS3, EncryptionKMS} {
		if e == w.b.options.Encryption {
			continue
		}
		other := *w.b
		other.encryption, _ = encryption(Options{Encryption: e})
		probe := probeWrite{b: &other, key: w.key, content: w.content}
		checksum := w.b.options.Checksum
		if checksum == "" {
			checksum = ChecksumMD5 // a bucket with Object Lock needs one, and every store takes it
		}
		version, _, err := probe.put(ctx, checksum, w.content)
		if err == nil {
			_ = w.remove(ctx, version)
			return &encryptionError{wanted: e, err: denied}
		}
		if CauseOf(err).Reason == EncryptionKeyRefused {
			return &encryptionError{wanted: e, err: denied}
		}
	}
	return denied
}

// encryptionError is a denial that another encryption would have spared.
type encryptionError struct {
	wanted Encryption
	err    error
}

// Error names the encryption that passes.
func (e *encryptionError) Error() string { return fmt.Sprintf("%v; %s passes", e.err, e.wanted) }

// Unwrap returns the denial.
func (e *encryptionError) Unwrap() error { return e.err }

func (b *Bucket) probeError(err error) *ProbeError {
	c := CauseOf(err)
	if c.Reason == "" {
		return &ProbeError{Reason: EndpointUnreachable, err: err,
			Message: fmt.Sprintf("bucket %q: %v; correct spec.recordings.endpoint, or wait for the service. A store "+
				"with a "+
				"private address must be in the platform's storage.allowedCIDRs; the operator's log has the "+
				"cause", b.name, err)}
	}
	return &ProbeError{Reason: c.Reason, Stop: c.Stop, Message: fmt.Sprintf("bucket %q: %s", b.name, Explain(err)),
		err: err}
}

// NotAllowed returns the *ProbeError for an endpoint that the platform's Policy does not allow.
func NotAllowed(err *PolicyError) *ProbeError {
	return &ProbeError{Reason: EndpointNotAllowed, Stop: true, Message: fmt.Sprintf("spec.recordings.endpoint: %v", err),
		err: err}
}

// gone tells whether what was to be removed is not there.
func gone(err error) bool {
	var answer *resilience.HTTPError
	return errors.Is(err, ErrNotFound) || errors.As(err, &answer) && answer.Code == "NoSuchUpload"
}
