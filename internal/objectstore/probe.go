package objectstore

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

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

// Finding is what a probe found out about a bucket. With an error it is what the probe had found out before that.
type Finding struct {
	// Checksum is the best one that the store verifies, or that can be compared; empty if that is unknown.
	Checksum Checksum
	// Kept says why the object of the probe could not be deleted; empty if it was, or if the next probe replaces it.
	Kept string
	// Written is the SHA-256, in hex, of an object that is kept and was written as uploads are.
	Written string
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
// Without a checksum in the bucket's options it finds out which one the bucket supports, for objects and for parts.
// With one it makes sure that it still holds for objects, and looks for another only if it does not. The key is always
// the same, so that the next probe replaces what a crash leaves. It returns a *ProbeError.
func (b *Bucket) ProbeWrite(ctx context.Context, key string) (Finding, error) {
	var content [probeSize / 2]byte
	_, _ = rand.Read(content[:]) // never fails
	w := probeWrite{b: b, key: key, content: []byte(hex.EncodeToString(content[:]))}
	checksum, err := w.negotiate(ctx)
	if err != nil {
		err = w.encryptionPolicy(ctx, err)
		return w.failed(ctx), b.probeError(err)
	}
	w.passed = true
	if err := w.readBack(ctx); err != nil {
		found := w.failed(ctx)
		found.Checksum = checksum
		return found, b.probeError(err)
	}
	found, err := w.leave(ctx)
	found.Checksum = checksum
	if err != nil && CauseOf(err).Reason == "" {
		return found, b.probeError(err)
	}
	return found, nil
}

// ProbeRead reads the object back that a probe has left, and reports whether it has the digest of that Finding. It
// returns a *ProbeError.
func (b *Bucket) ProbeRead(ctx context.Context, key, written string) (same bool, err error) {
	_, sum, err := b.Digest(ctx, key, probeSize+1, nil)
	switch {
	case errors.Is(err, ErrNotFound):
		return false, nil
	case err != nil:
		return false, b.probeError(fmt.Errorf("read the probe's object back: %w", err))
	}
	return sum == written, nil
}

// probeSize is the length of the object that a probe writes.
const probeSize = 64

// failed removes what a probe has written before it failed.
func (w *probeWrite) failed(ctx context.Context) Finding {
	found, _ := w.leave(context.WithoutCancel(ctx)) // what failed first is reported
	return found
}

// leave removes what a probe has written, and returns what is kept. A bucket without versions that is down keeps
// nothing for good: the next probe replaces the object.
func (w *probeWrite) leave(ctx context.Context) (f Finding, err error) {
	versions := slices.ContainsFunc(w.wrote, func(version string) bool { return version != "" })
	if err = w.remove(ctx); err != nil && (versions || CauseOf(err).Reason != "") {
		f.Kept = err.Error()
		if w.passed {
			f.Written = hex.EncodeToString(ChecksumSHA256.sumsOf(w.content).SHA256)
		}
	}
	return f, err
}

// errContent is the error of a store that does not return what it was sent.
var errContent = errors.New("the object was changed")

// probeWrite is one such probe.
type probeWrite struct {
	b       *Bucket
	key     string
	content []byte
	// wrote are the versions that were written; "" in a bucket without versions.
	wrote []string
	// passed means that the store has taken the object as uploads send theirs.
	passed bool
	// noParts means that the store has twice answered, without a code of S3, that it takes no uploads in parts.
	noParts bool
	// etag is that of a part which was begun as captures begin theirs without a checksum in a header; empty if none was
	// taken.
	etag string
}

// negotiate writes the object with the best checksum that works.
func (w *probeWrite) negotiate(ctx context.Context) (Checksum, error) {
	known := w.b.options.Checksum
	want := hex.EncodeToString(ChecksumMD5.sumsOf(w.content).MD5)
	if known != "" && !known.Sent() {
		etag, err := w.put(ctx, known, w.content)
		if otherETags := err == nil && known == ChecksumETag && etag != want; !otherETags && !unsupported(err) {
			return known, err
		}
	}
	// A checksum that is sent is tried with a wrong body each time: uploads rely on it, and another store may have
	// taken over the endpoint.
	order := []Checksum{ChecksumSHA256, ChecksumCRC64NVME, ChecksumMD5}
	if i := slices.Index(order, known); i > 0 {
		order = slices.Insert(slices.Delete(order, i, i+1), 0, known)
	}
	var whole Checksum // verified for objects, but not for parts
	for _, c := range order {
		ok, err := w.verifies(ctx, c)
		if ok && c != known {
			whole = cmp.Or(whole, c)
			ok, err = w.verifiesParts(ctx, c)
		}
		if ok || err != nil {
			return c, err
		}
	}
	etag, err := w.put(ctx, ChecksumETag, w.content)
	switch {
	case whole != "" && unsupported(err): // Object Lock takes no body without a checksum
		return whole, nil
	case err != nil || etag != want:
		return ChecksumNone, err
	}
	if etag, err = w.partETag(ctx); err != nil || etag != "" && etag != want {
		return ChecksumNone, err
	}
	return ChecksumETag, nil
}

// verifies reports whether the store refuses a body whose checksum is wrong, and takes it with the right one. A store
// that takes both ignores the checksum.
func (w *probeWrite) verifies(ctx context.Context, c Checksum) (ok bool, err error) {
	_, err = w.put(ctx, c, []byte("another body"))
	if err == nil {
		return false, nil
	}
	if !unsupported(err) {
		return false, err
	}
	_, err = w.put(ctx, c, w.content)
	if unsupported(err) {
		return false, nil
	}
	return err == nil, err
}

// unsupported reports whether a store refused a request for what it carried, so that it may take it in another form.
func unsupported(err error) bool {
	var (
		noParts *noPartsError
		answer  *AnswerError
	)
	if errors.As(err, &noParts) {
		return true
	}
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
func (w *probeWrite) put(ctx context.Context, c Checksum, body []byte) (etag string, err error) {
	sent := c.sent(c.sumsOf(body))
	opts := w.b.putOptions(&Object{ContentType: "text/plain"}, Sums{})
	sent.addTo(&opts)
	info, err := w.b.core.PutObject(ctx, w.b.name, w.key, bytes.NewReader(w.content), int64(len(w.content)), sent.md5,
		"", opts)
	if err == nil {
		w.wrote = append(w.wrote, info.VersionID)
	}
	return info.ETag, w.b.explain(err)
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

// remove deletes every version that was written, so that a bucket with versions keeps nothing either.
func (w *probeWrite) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, removeWithin)
	defer cancel()
	var faults error
	slices.Sort(w.wrote)
	for _, version := range slices.Compact(w.wrote) {
		err := w.b.explain(w.b.core.RemoveObject(ctx, w.b.name, w.key, minio.RemoveObjectOptions{VersionID: version}))
		if err != nil && !gone(err) && faults == nil { // the others have the same cause
			faults = err
		}
	}
	w.wrote = nil
	return faults
}

// removeWithin bounds the deletion of what a probe has written.
const removeWithin = 10 * time.Second

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
		_, err := probe.put(ctx, checksum, w.content)
		w.wrote = append(w.wrote, probe.wrote...)
		if err == nil {
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
	cause := CauseOf(err)
	if cause.Reason == "" {
		return &ProbeError{
			Reason: EndpointUnreachable,
			err:    err,
			Message: fmt.Sprintf("bucket %q: %v; correct spec.recordings.endpoint, or wait for the service. A store "+
				"with a "+
				"private address must be in the platform's storage.allowedCIDRs; the operator's log has the "+
				"cause", b.name, err),
		}
	}
	return &ProbeError{
		Reason:  cause.Reason,
		Stop:    cause.Stop,
		Message: fmt.Sprintf("bucket %q: %s", b.name, Explain(err)),
		err:     err,
	}
}

// NotAllowed returns the *ProbeError for an endpoint that the platform's Policy does not allow.
func NotAllowed(err *PolicyError) *ProbeError {
	field := "endpoint"
	if err.public {
		field = "publicEndpoint"
	}
	return &ProbeError{
		Reason:  EndpointNotAllowed,
		Stop:    true,
		err:     err,
		Message: fmt.Sprintf("spec.recordings.%s: %v", field, err),
	}
}

// gone tells whether what was to be removed is not there.
func gone(err error) bool {
	var answer *resilience.HTTPError
	return errors.Is(err, ErrNotFound) || errors.As(err, &answer) && answer.Code == "NoSuchUpload"
}
