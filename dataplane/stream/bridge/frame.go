package bridge

import (
	"encoding/binary"
	"math/rand/v2"
)

// Opcodes of RFC 6455: two that whole messages begin with, and the end.
const (
	opText   = 1
	opBinary = 2
	opClose  = 8
)

// maxHeader is the longest frame header: two bytes, a 64-bit length and a mask.
const maxHeader = 2 + 8 + 4

// header of one frame.
type header struct {
	first  byte // FIN, reserved bits and opcode
	masked bool
	size   int   // of the header itself
	length int64 // of the payload; negative if the sender set the bit that must not be set
	mask   [4]byte
}

// parseHeader reads a header; false if b ends before it does.
func parseHeader(b []byte) (h header, ok bool) {
	if len(b) < 2 {
		return h, false
	}
	h = header{first: b[0], masked: b[1]&0x80 != 0, size: 2, length: int64(b[1] & 0x7f)}
	switch h.length {
	case 126:
		h.size += 2
	case 127:
		h.size += 8
	}
	lengthEnd := h.size
	if h.masked {
		h.size += 4
	}
	if len(b) < h.size {
		return h, false
	}
	switch lengthEnd {
	case 4:
		h.length = int64(binary.BigEndian.Uint16(b[2:]))
	case 10:
		h.length = int64( //nolint:gosec // G115: a length with the top bit becomes negative, which is refused
			binary.BigEndian.Uint64(b[2:]),
		)
	}
	if h.masked {
		h.mask = [4]byte(b[lengthEnd:])
	}
	return h, true
}

// wholeMessage tells whether the frame is a message of its own, without reserved bits: FIN and a data opcode, nothing else.
func (h header) wholeMessage() bool {
	return h.first == 0x80|opText || h.first == 0x80|opBinary
}

// data reports whether the frame is one of a message: its first one, or a continuation.
func (h header) data() bool { return h.first&0x08 == 0 }

// final reports whether the frame has the FIN bit.
func (h header) final() bool { return h.first&0x80 != 0 }

// seal writes a header in front of buf[at:] and returns the frame. There must be room for maxHeader bytes, or for the header that the
// payload came with. A masked frame's payload is masked in place.
func seal(buf []byte, at int, op byte, masked bool) []byte {
	payload := buf[at:]
	var mask [4]byte
	if masked {
		// A client's masks must not be predictable, RFC 6455 section 10.3. The runtime's ChaCha8 is not, and costs no system call.
		binary.LittleEndian.PutUint32(mask[:], rand.Uint32()) //nolint:gosec // G404: see above
		at -= copy(buf[at-4:], mask[:])
		applyMask(mask, payload)
	}
	bit := byte(0)
	if masked {
		bit = 0x80
	}
	switch n := len(payload); {
	case n < 126:
		at -= 2
		buf[at+1] = bit | byte(n)
	case n < 1<<16:
		at -= 4
		buf[at+1] = bit | 126
		binary.BigEndian.PutUint16(buf[at+2:], uint16(n))
	default:
		at -= 10
		buf[at+1] = bit | 127
		binary.BigEndian.PutUint64(buf[at+2:], uint64(n))
	}
	buf[at] = 0x80 | op
	return buf[at:]
}

// applyMask masks or unmasks, 32 bytes at a time.
func applyMask(mask [4]byte, b []byte) {
	k := uint64(binary.LittleEndian.Uint32(mask[:]))
	k |= k << 32
	for len(b) >= 32 {
		w := b[:32:32]
		binary.LittleEndian.PutUint64(w[0:], binary.LittleEndian.Uint64(w[0:])^k)
		binary.LittleEndian.PutUint64(w[8:], binary.LittleEndian.Uint64(w[8:])^k)
		binary.LittleEndian.PutUint64(w[16:], binary.LittleEndian.Uint64(w[16:])^k)
		binary.LittleEndian.PutUint64(w[24:], binary.LittleEndian.Uint64(w[24:])^k)
		b = b[32:]
	}
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^k)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= mask[i&3]
	}
}
