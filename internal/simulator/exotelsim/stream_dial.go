package exotelsim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
)

const (
	// handshakeLimit is how long Exotel waits, for the URL and for the handshake. It tries a failed handshake a second
	// time.
	handshakeLimit = 10 * time.Second
	// longestFrame is one that nobody should send: Exotel takes 100,000 bytes of audio at most, 133,336 in base64.
	longestFrame = 1 << 20
)

// buffers for writing are shared between streams: a simulator has thousands, most of them between two frames.
var buffers sync.Pool

// dial opens the stream's socket, and tells at which address.
func (s Stream) dial(ctx context.Context) (*websocket.Conn, *url.URL, error) {
	address, err := url.Parse(s.URL)
	if err != nil {
		return nil, nil, errors.New("the stream's URL is not a URL") // without the URL, which may carry a password
	}
	if address.Scheme == "http" || address.Scheme == "https" {
		if address, err = s.ask(ctx, address); err != nil {
			return nil, nil, err
		}
	}
	if address.Scheme != "ws" && address.Scheme != "wss" || address.Host == "" {
		return nil, nil, errors.New(
			"the stream's URL must begin with ws://, wss://, http:// or https:// and name a host",
		)
	}
	s.askForRate(address)
	conn, err := s.handshake(ctx, *address)
	if err != nil && ctx.Err() == nil {
		conn, err = s.handshake(ctx, *address)
	}
	return conn, address, err
}

// askForRate adds the sample rate to the query, where it is not the default and not there.
func (s Stream) askForRate(u *url.URL) {
	values := u.Query()
	if s.Rate != 8000 && !values.Has("sample-rate") {
		values.Set("sample-rate", strconv.Itoa(s.Rate))
		u.RawQuery = values.Encode()
	}
}

// ask gets the URL of this call's socket from a dynamic endpoint.
func (s Stream) ask(ctx context.Context, u *url.URL) (*url.URL, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeLimit)
	defer cancel()
	q := u.Query()
	for name, values := range (Call{
		SID:     s.CallSID,
		From:    s.From,
		To:      s.To,
		Started: time.Now(),
		Ended:   time.Now(),
	}).beforeStream() {
		q[name] = values
	}
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, errors.New("the stream's URL is not a URL")
	}
	transport := &http.Transport{TLSClientConfig: s.TLS, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask for the stream's URL: %w", withoutURL(err))
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, &HandshakeError{resp.StatusCode, "the question for the stream's URL"}
	}
	var answer struct {
		URL string `json:"url"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&answer); err != nil {
		return nil, fmt.Errorf("the question for the stream's URL was answered with something else than JSON: %w", err)
	}
	to, err := url.Parse(answer.URL)
	if err != nil || to.Scheme != "ws" && to.Scheme != "wss" {
		return nil, errors.New(`the question for the stream's URL was not answered {"url": "wss://..."}`)
	}
	return to, nil
}

// withoutURL takes the URL out of an error, which may carry a token.
func withoutURL(err error) error {
	var failed *url.Error
	if errors.As(err, &failed) {
		return failed.Err
	}
	return err
}

// beforeStream is the query that a dynamic endpoint is asked with: a Passthru's, without what a call has only later.
func (c Call) beforeStream() url.Values {
	values := url.Values{}
	for _, name := range []string{"CallSid", "CallFrom", "CallTo", "From", "To", "Direction", "Created", "CurrentTime", "flow_id"} {
		values[name] = c.Passthru()[name]
	}
	return values
}

// handshake opens the socket as a Go program with gorilla's client does, which is what Exotel looks like.
func (s Stream) handshake(ctx context.Context, u url.URL) (*websocket.Conn, error) {
	header := http.Header{"User-Agent": {"Go-http-client/1.1"}}
	if u.User != nil {
		password, _ := u.User.Password()
		request := http.Request{Header: header}
		request.SetBasicAuth(u.User.Username(), password)
		u.User = nil
	}
	dialer := websocket.Dialer{
		HandshakeTimeout: handshakeLimit,
		TLSClientConfig:  s.TLS,
		ReadBufferSize:   4 << 10,
		WriteBufferSize:  8 << 10,
		WriteBufferPool:  &buffers,
		NetDialContext:   (&net.Dialer{Control: s.shrink}).DialContext,
	}
	conn, resp, err := dialer.DialContext(ctx, u.String(), header)
	if resp != nil {
		_ = resp.Body.Close() // of a refusal it is a copy; of a success there is none
	}
	switch {
	case errors.Is(err, websocket.ErrBadHandshake):
		return nil, &HandshakeError{resp.StatusCode, "the handshake"}
	case err != nil:
		return nil, fmt.Errorf("open the stream's socket: %w", withoutURL(err))
	}
	conn.SetReadLimit(longestFrame)
	return conn, nil
}

// shrink makes the receive buffer of a slow reader small, so that its slowness is felt at once and not after megabytes.
func (s Stream) shrink(_, _ string, raw syscall.RawConn) error {
	if s.Quirks.ReadDelay == 0 {
		return nil
	}
	var err error
	if cerr := raw.Control(
		func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10) },
	); cerr != nil {
		return cerr
	}
	return err
}
