package webhook

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/internal/budget"
)

const (
	// freeBody is how much of a body is always taken, in bytes: more than webhooks have. What is beyond it comes out of sharedMemory.
	freeBody     = 16 << 10
	sharedMemory = 64 << 20
)

// SharedMemory is the memory that all bodies of a pod share, in bytes.
const SharedMemory = sharedMemory

var errNoMemory = errors.New("the budget for bodies is used up")

// charged is a body that has a share of the memory.
type charged struct {
	io.Reader
	share budget.Share
	total int64
}

// Read fails with errNoMemory once there is none left.
func (c *charged) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if c.total += int64(n); !c.share.Resize(c.total) {
		return 0, errNoMemory
	}
	return n, err
}

func (c *charged) free() { c.share.Resize(0) }

// body reads it whole. free must be called when it is needed no longer, also after an error.
func (h *Handler) body(w http.ResponseWriter, r *http.Request) (body []byte, free func(), err error) {
	if r.ContentLength == 0 {
		return nil, func() {}, nil
	}
	in := &charged{Reader: http.MaxBytesReader(w, r.Body, h.o.MaxBody), share: h.memory.Share(freeBody)}
	buffer := bytes.NewBuffer(make([]byte, 0, min(max(r.ContentLength, 0)+bytes.MinRead, freeBody)))
	_, err = buffer.ReadFrom(in)
	if errors.Is(err, errNoMemory) {
		err = unread(w, r, err)
	}
	return buffer.Bytes(), in.free, explainBody(err)
}

func explainBody(err error) error {
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &tooLarge):
		return problem.New(problem.PayloadTooLarge, "the body is larger than a webhook may be")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return problem.New(problem.Timeout, "the body did not end in time").WithStatus(http.StatusRequestTimeout)
	case errors.Is(err, errNoMemory):
		return problem.New(problem.Unavailable, "there is no room for so large a body now; send this again").WithRetryAfter(time.Second)
	}
	return problem.New(problem.Validation, "the body broke off before its end")
}
