package bridge

import "sync"

// smallBuffer holds every frame that a call usually sends: 200 ms at 24 kHz are 13 KB as text.
const smallBuffer = 16 << 10

// bufferSizes are the sizes of buffers. The largest holds the longest message, a header, and the byte that a reader
// needs to find the message's end.
var bufferSizes = [...]int{smallBuffer, 32 << 10, 64 << 10, 128 << 10, maxFrame + 8<<10}

// buffer is memory that idle connections do not hold: it is taken once there is something to read, and given back when all of it was
// passed on.
type buffer struct {
	b    []byte
	size int // index in bufferSizes
}

// buffers are free, by size.
var buffers [len(bufferSizes)]sync.Pool

// takeBuffer returns a buffer of at least n bytes.
func takeBuffer(n int) *buffer {
	size := sizeIndex(n)
	if b, ok := buffers[size].Get().(*buffer); ok {
		return b
	}
	return &buffer{b: make([]byte, bufferSizes[size]), size: size}
}

// sizeIndex is the index of the smallest size for n bytes, or that of the largest.
func sizeIndex(n int) int {
	for i, size := range bufferSizes {
		if n <= size {
			return i
		}
	}
	return len(bufferSizes) - 1
}

// charge is how much of a buffer comes out of the memory that all streams share, in bytes. A small buffer is free.
func (b *buffer) charge() int64 {
	if b == nil || b.size == 0 {
		return 0
	}
	return int64(len(b.b))
}

// give returns a buffer. Nothing of it may be used any more.
func (b *buffer) give() {
	if b != nil {
		buffers[b.size].Put(b)
	}
}
