package audio

import (
	"math/bits"
	"sync"
)

// smallBuffer holds every frame that a call usually sends: 200 ms at 24 kHz are 13 KB as text.
const smallBuffer = 16 << 10

// buffer is memory that idle connections do not hold: it is taken once there is something to read, and given back when all of it was
// passed on.
type buffer struct{ b []byte }

var smallBuffers, largeBuffers sync.Pool

// takeBuffer returns a buffer of at least n bytes.
func takeBuffer(n int) *buffer {
	pool, size := &smallBuffers, smallBuffer
	if n > smallBuffer {
		pool, size = &largeBuffers, 1<<bits.Len(uint(n-1))
	}
	if b, ok := pool.Get().(*buffer); ok && len(b.b) >= n {
		return b
	}
	return &buffer{b: make([]byte, size)}
}

// give returns a buffer. Nothing of it may be used any more.
func (b *buffer) give() {
	if b == nil {
		return
	}
	if len(b.b) == smallBuffer {
		smallBuffers.Put(b)
	} else {
		largeBuffers.Put(b)
	}
}
