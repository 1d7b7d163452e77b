package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// wire is a connection that is spoken to by hand: a client that cost as much as the server would measure itself.
type wire struct {
	from string // the address to connect from; empty: any
	c    net.Conn
	in   *bufio.Reader
}

func (w *wire) close() {
	if w.c != nil {
		_ = w.c.Close()
		w.c = nil
	}
}

// do sends a request and returns the answer's status, or noAnswer. It connects where there is no connection, or not any more.
func (w *wire) do(ctx context.Context, request []byte) (status int) {
	if w.c == nil && w.dial(ctx) != nil {
		return noAnswer
	}
	_ = w.c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := w.c.Write(request); err != nil {
		w.close()
		return noAnswer
	}
	status, closes, err := readAnswer(w.in)
	if closes || err != nil {
		w.close()
	}
	if err != nil {
		return noAnswer
	}
	return status
}

func (w *wire) dial(ctx context.Context) error {
	d := net.Dialer{}
	if w.from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(w.from)}
	}
	c, err := d.DialContext(ctx, "tcp", publicAddress)
	if err != nil {
		return err
	}
	w.c = c
	if w.in == nil {
		w.in = bufio.NewReaderSize(nil, 16<<10)
	}
	w.in.Reset(w.c)
	return nil
}

// readAnswer reads an answer to its end and forgets its body.
func readAnswer(in *bufio.Reader) (status int, closes bool, err error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return 0, true, err
	}
	if len(line) < len("HTTP/1.1 200") {
		return 0, true, fmt.Errorf("answered %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, true, fmt.Errorf("answered %q", line)
	}
	length, closes := 0, false
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return status, true, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			length, _ = strconv.Atoi(string(v))
		} else if bytes.Equal(line, []byte("Transfer-Encoding: chunked")) {
			length = -1
		} else if bytes.Equal(line, []byte("Connection: close")) {
			closes = true
		}
	}
	if length < 0 {
		err = skipChunks(in)
	} else {
		_, err = in.Discard(length)
	}
	return status, closes, err
}

func skipChunks(in *bufio.Reader) error {
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		size, err := strconv.ParseUint(string(bytes.TrimRight(line, "\r\n")), 16, 31)
		if err != nil {
			return errors.New("a chunk has no length")
		}
		if _, err := in.Discard(int(size) + len("\r\n")); err != nil || size == 0 {
			return eofIsEarly(err)
		}
	}
}

func eofIsEarly(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// listRequest asks for a page of calls.
func listRequest(token string) []byte {
	return fmt.Appendf(
		nil, "GET /api/calls?limit=%d HTTP/1.1\r\nHost: caly\r\nAuthorization: Bearer %s\r\n\r\n", pageSize, token,
	)
}

// loginRequest tries a password that is nobody's.
func loginRequest(email string) []byte {
	body := fmt.Sprintf(`{"email":%q,"password":"never anybody's password"}`, email)
	return fmt.Appendf(
		nil,
		"POST /t/%s/api/auth/login HTTP/1.1\r\nHost: caly\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		tenantID,
		len(body),
		body,
	)
}
