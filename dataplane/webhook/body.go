package webhook

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/caly-dev/caly/dataplane/problem"
)

const (
	// freeBody is how much of a body is always taken, in bytes: more than webhooks have. What is beyond it comes out of sharedMemory.
	freeBody     = 16 << 10
	sharedMemory = 64 << 20
)

// budget is memory, in bytes, that all large bodies share.
type budget struct{ left atomic.Int64 }

func newBudget(n int64) *budget {
	b := &budget{}
	b.left.Store(n)
	return b
}

func (b *budget) take(n int64) bool {
	if b.left.Add(-n) < 0 {
		b.left.Add(n)
		return false
	}
	return true
}

var errNoMemory = errors.New("the budget for bodies is used up")

// charged is a body of which all beyond freeBody is charged to the budget.
type charged struct {
	io.Reader
	budget       *budget
	total, taken int64
}

// Read fails with errNoMemory once the budget is used up.
func (c *charged) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.total += int64(n)
	if over := c.total - freeBody - c.taken; over > 0 {
		if !c.budget.take(over) {
			return 0, errNoMemory
		}
		c.taken += over
	}
	return n, err
}

func (c *charged) free() { c.budget.left.Add(c.taken) }

// body reads it whole. free must be called when it is needed no longer, also after an error.
func (h *Handler) body(w http.ResponseWriter, r *http.Request) (body []byte, free func(), err error) {
	if r.ContentLength == 0 {
		return nil, func() {}, nil
	}
	in := &charged{Reader: http.MaxBytesReader(w, r.Body, h.o.MaxBody), budget: h.memory}
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
