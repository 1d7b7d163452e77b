package objectstore

import (
	"context"
	"io"
	"net"
	"sync"
)

// pieceSize is how much of a body is read and sent at once. net/http's own 32 KiB make up to twice as many system calls; more
// than this is memory and no time saved.
const pieceSize = 64 << 10

var pieces = sync.Pool{New: func() any { b := make([]byte, pieceSize); return &b }}

// pieceConn sends bodies in pieces of pieceSize: net/http leaves the copying to the connection where it offers to. TLS does
// not, and cuts records of 16 KiB anyway.
type pieceConn struct{ net.Conn }

type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

func inPieces(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return pieceConn{conn}, nil
	}
}

// ReadFrom sends all of r.
func (c pieceConn) ReadFrom(r io.Reader) (int64, error) {
	buf := pieces.Get().(*[]byte) // the pool makes nothing else
	defer pieces.Put(buf)
	return io.CopyBuffer(struct{ io.Writer }{c.Conn}, struct{ io.Reader }{r}, *buf)
}
