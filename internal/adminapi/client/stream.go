package client

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/caly-dev/caly/internal/bounded"
)

// maxStreamError bounds what the kubelet says of a connection that it could not forward.
const maxStreamError = 4096

// stream is one forwarded connection: a stream with its data, and one on which the kubelet reports an error.
type stream struct {
	tunnel  httpstream.Connection
	data    httpstream.Stream
	errors  httpstream.Stream
	said    chan struct{} // closed once the error stream has ended
	message string
	once    sync.Once
}

// openStream opens both streams.
func openStream(tunnel httpstream.Connection, port int32, request int) (net.Conn, error) {
	reports, err := tunnel.CreateStream(streamHeaders(corev1.StreamTypeError, port, request))
	if err != nil {
		return nil, fmt.Errorf("open the error stream of a port-forward: %w", err)
	}
	_ = reports.Close() // nothing is written to it
	data, err := tunnel.CreateStream(streamHeaders(corev1.StreamTypeData, port, request))
	if err != nil {
		tunnel.RemoveStreams(reports)
		return nil, fmt.Errorf("open the data stream of a port-forward: %w", err)
	}
	s := &stream{tunnel: tunnel, data: data, errors: reports, said: make(chan struct{})}
	go s.listen()
	return s, nil
}

// listen reads what the kubelet reports. A report ends the connection.
func (s *stream) listen() {
	defer close(s.said)
	report, _ := io.ReadAll(io.LimitReader(s.errors, maxStreamError))
	if len(report) > 0 {
		s.message = bounded.Text(string(report), 500)
		_ = s.data.Reset()
	}
}

// Read reads data. At the end it returns what the kubelet reported, if it did.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.data.Read(p)
	if err != nil && n == 0 {
		err = s.explain(err)
	}
	return n, err
}

// explain returns the kubelet's report in place of an error of the stream.
func (s *stream) explain(err error) error {
	select {
	case <-s.said:
		if s.message != "" {
			return errors.New("the port-forward failed: " + s.message)
		}
	case <-time.After(100 * time.Millisecond): // a report comes with the end of the data
	}
	return err
}

// Write writes data.
func (s *stream) Write(p []byte) (int, error) {
	n, err := s.data.Write(p)
	if err != nil {
		err = s.explain(err)
	}
	return n, err
}

// Close ends both streams.
func (s *stream) Close() (err error) {
	s.once.Do(func() {
		err = s.data.Close()
		_ = s.data.Reset()
		_ = s.errors.Reset()
		s.tunnel.RemoveStreams(s.data, s.errors)
	})
	return err
}

// forwarded is the address of either end.
type forwarded struct{}

// Network returns the name of the network.
func (forwarded) Network() string { return "port-forward" }

// String returns the address.
func (forwarded) String() string { return "caly-operator" }

// LocalAddr returns the address of the tunnel.
func (s *stream) LocalAddr() net.Addr { return forwarded{} }

// RemoteAddr returns the address of the tunnel.
func (s *stream) RemoteAddr() net.Addr { return forwarded{} }

// SetDeadline does nothing: the HTTP client bounds requests by their contexts, and closes the connection at their end.
func (s *stream) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (s *stream) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (s *stream) SetWriteDeadline(time.Time) error { return nil }
