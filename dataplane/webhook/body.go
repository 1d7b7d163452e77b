package webhook

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/internal/budget"
)

const (
	// freeMemory is how much memory every webhook may take for its body and its fields, in bytes. Real webhooks need
	// less. What a webhook takes beyond it comes out of sharedMemory.
	freeMemory = 32 << 10
	// sharedMemory is small, since the garbage collector lets the heap grow to five times what is in use.
	sharedMemory = 16 << 20
	// firstRead is the largest room that is made for a body before any of it has arrived, in bytes.
	firstRead = 16 << 10
	// secondRead is the room that is made for a body that is larger than firstRead, before the room for the largest one.
	secondRead = 128 << 10
)

// SharedMemory is the memory that all webhooks of a pod share, in bytes.
const SharedMemory = sharedMemory

var errNoMemory = errors.New("the memory for webhooks is used up")

// received is a body with its share of the memory.
type received struct {
	bytes []byte
	share budget.Share
	pool  *pool
}

// free must be called when the body and its fields are needed no longer, also after an error.
func (b *received) free() { b.share.Resize(0) }

// reuse gives the memory of the body to later bodies. Nothing may refer to the body any longer.
func (b *received) reuse() {
	b.pool.put(b.bytes)
	b.bytes = nil
}

// charge reserves memory for reading the fields. It returns a problem when there is none left.
func (b *received) charge(fields int64) error {
	if !b.share.Resize(int64(cap(b.bytes)) + fields) {
		return explainBody(errNoMemory)
	}
	return nil
}

// body reads the body whole. The room for it grows as it arrives, whatever length the sender announces.
func (h *Handler) body(w http.ResponseWriter, r *http.Request) (*received, error) {
	b := &received{share: h.memory.Share(freeMemory), pool: &h.pool}
	if r.ContentLength == 0 {
		return b, nil
	}
	longest := h.o.MaxBody
	if r.ContentLength > 0 {
		longest = min(r.ContentLength, longest)
	}
	err := b.readFrom(http.MaxBytesReader(w, r.Body, h.o.MaxBody), longest+1) // one more, in which the end is found
	if errors.Is(err, errNoMemory) {
		err = unread(w, r, err)
	}
	return b, explainBody(err)
}

// grow makes more room. It reports whether there is memory for it.
func (b *received) grow() bool {
	room := b.pool.largest
	if cap(b.bytes) < secondRead {
		room = min(secondRead, room)
	}
	if !b.share.Resize(int64(room)) {
		return false
	}
	small := b.bytes
	b.bytes = append(b.pool.get(room), small...)
	b.pool.put(small)
	return true
}

// readFrom reads to the end. It first makes room for longest bytes, or less.
func (b *received) readFrom(in io.Reader, longest int64) error {
	b.bytes = make([]byte, 0, min(longest, firstRead))
	for {
		if len(b.bytes) == cap(b.bytes) && !b.grow() {
			return errNoMemory
		}
		n, err := in.Read(b.bytes[len(b.bytes):cap(b.bytes)])
		b.bytes = b.bytes[:len(b.bytes)+n]
		if err == io.EOF { // readers return it as it is; a wrapped one is a truncated body
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func explainBody(err error) error {
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &tooLarge):
		return problem.New(problem.PayloadTooLarge, "the body is larger than a webhook may be")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return problem.New(problem.Timeout, "the body did not arrive in time").WithStatus(http.StatusRequestTimeout)
	case errors.Is(err, errNoMemory):
		return problem.New(problem.Unavailable,
			"there is no memory for so large a webhook now; retry later").WithRetryAfter(time.Second)
	}
	return problem.New(problem.Validation, "the request body was truncated")
}

// pool holds the memory of large bodies that were refused. Without it, senders that nobody has verified could fill
// the heap with garbage.
type pool struct {
	largest       int // room for the largest body and its end, in bytes
	second, whole sync.Pool
}

func (p *pool) of(size int) *sync.Pool {
	switch size {
	case p.largest:
		return &p.whole
	case secondRead:
		return &p.second
	}
	return nil
}

// get returns an empty slice with room for size bytes.
func (p *pool) get(size int) []byte {
	if b, ok := p.of(size).Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return make([]byte, 0, size)
}

// put takes the memory of a body. What is too small to be worth the effort is left to the garbage collector.
func (p *pool) put(b []byte) {
	if sized := p.of(cap(b)); sized != nil {
		sized.Put(&b)
	}
}
