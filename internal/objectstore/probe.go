package objectstore

import (
	"context"
	"errors"
	"fmt"

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

// Probe returns *ProbeError unless the endpoint answers, knows the bucket and takes the credentials. It lists one
// object rather than asking HEAD, which needs the same right, since only an answer with a body says what is wrong.
// It makes one request.
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

func (b *Bucket) probeError(err error) *ProbeError {
	c := CauseOf(err)
	if c.Reason == "" {
		return &ProbeError{Reason: EndpointUnreachable, err: err,
			Message: fmt.Sprintf("bucket %q: %v; correct spec.recordings.endpoint, or wait for the service. A store "+
				"with a private address "+
				"must be in the platform's storage.allowedCIDRs; the operator's log has the cause", b.name, err)}
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
