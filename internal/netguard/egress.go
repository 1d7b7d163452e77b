package netguard

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"

	"github.com/caly-dev/caly/internal/bounded"
)

// Egress is the platform's proxy for connections to hosts that tenants name. A nil Egress means direct connections.
type Egress struct {
	proxy   *url.URL
	address string // host:port of the proxy
	bypass  func(*url.URL) (*url.URL, error)
}

// Bounds of one CONNECT (RFC 9110, 9.3.6).
const (
	connectWithin = 10 * time.Second
	lookupWithin  = 2 * time.Second
	maxConnect    = 8 << 10 // bytes of the answer's header
)

var defaultPorts = map[string]string{"http": "80", "https": "443"}

// NewEgress returns nothing for an empty URL. The proxy is an http or https URL without credentials, since flags are
// public; noProxy lists hosts, ".domain", addresses and ranges, with an optional port, that are reached directly.
func NewEgress(proxy string, noProxy []string) (*Egress, error) {
	if proxy == "" {
		return nil, nil //nolint:nilnil // nil is a valid Egress
	}
	u, err := url.Parse(proxy)
	if err != nil || u.Hostname() == "" || defaultPorts[u.Scheme] == "" || strings.Trim(u.Path, "/") != "" {
		return nil, errors.New("the egress proxy is not a URL such as http://proxy.example:3128")
	}
	if u.User != nil {
		return nil, errors.New("the egress proxy's URL has credentials, which flags would show: let the proxy accept " +
			"these pods by their address")
	}
	address := net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), defaultPorts[u.Scheme]))
	config := httpproxy.Config{HTTPSProxy: proxy, NoProxy: strings.Join(noProxy, ",")}
	return &Egress{proxy: u, address: address, bypass: config.ProxyFunc()}, nil
}

// via reports whether an address of host:port is reached through the proxy.
func (e *Egress) via(address string) bool {
	if e == nil {
		return false
	}
	through, err := e.bypass(&url.URL{Scheme: "https", Host: address})
	return err != nil || through != nil
}

// dial connects through the proxy, which is asked by name, so that its own rules see the name. The guard judges every
// address that the name has here first. A name that has none here is the proxy's to resolve and to judge.
func (e *Egress) dial(ctx context.Context, g guard, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	if err := e.judge(ctx, g, address); err != nil {
		return nil, err
	}
	conn, err := e.reach(ctx)
	if err != nil {
		return nil, fmt.Errorf("reach the egress proxy %s: %w", e.proxy.Host, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err = e.connect(conn, address)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func (e *Egress) judge(ctx context.Context, g guard, address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return g.check(addr.WithZone(""))
	}
	ctx, cancel := context.WithTimeout(ctx, lookupWithin)
	defer cancel()
	found, _ := net.DefaultResolver.LookupNetIP(ctx, "ip", host) // many clusters behind a proxy resolve no public name
	for _, addr := range found {
		if err := g.check(addr.Unmap().WithZone("")); err != nil {
			return err
		}
	}
	return nil
}

func (e *Egress) reach(ctx context.Context) (net.Conn, error) {
	plain := &net.Dialer{KeepAlive: keepAlive}
	if e.proxy.Scheme == "http" {
		return plain.DialContext(ctx, "tcp", e.address)
	}
	config := &tls.Config{ServerName: e.proxy.Hostname(), MinVersion: tls.VersionTLS12}
	return (&tls.Dialer{NetDialer: plain, Config: config}).DialContext(ctx, "tcp", e.address)
}

func (e *Egress) connect(conn net.Conn, address string) error {
	if _, err := fmt.Fprintf(conn, "CONNECT %[1]s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", address); err != nil {
		return fmt.Errorf("ask the egress proxy %s: %w", e.proxy.Host, err)
	}
	header, err := readHeader(conn)
	if err != nil {
		return fmt.Errorf("the egress proxy %s did not answer CONNECT: %w", e.proxy.Host, err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(header)), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return fmt.Errorf("the egress proxy %s does not speak HTTP", e.proxy.Host)
	}
	_ = resp.Body.Close() // CONNECT has none
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("the egress proxy %s refused to connect to %s: it answered %s; let it allow this host",
			e.proxy.Host, address, bounded.Text(resp.Status, 100))
	}
	return nil
}

// readHeader reads up to the empty line, byte by byte: what follows is the other host's.
func readHeader(r io.Reader) ([]byte, error) {
	var header []byte
	for one := make([]byte, 1); len(header) < maxConnect; {
		if _, err := io.ReadFull(r, one); err != nil {
			return nil, err
		}
		if header = append(header, one[0]); bytes.HasSuffix(header, []byte("\r\n\r\n")) {
			return header, nil
		}
	}
	return nil, errors.New("its header is too long")
}
