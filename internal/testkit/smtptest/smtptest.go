// Package smtptest gives tests a real SMTP server on loopback, which can be told to misbehave.
package smtptest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// Username and Password are what AUTH takes.
const (
	Username = "caly"
	Password = "smtp-canary-password" //nolint:gosec // a test's
)

// Options of New.
type Options struct {
	// Address to listen on; empty: any port.
	Address string
	// NoTLS offers no STARTTLS; ImplicitTLS speaks TLS from the first byte on.
	NoTLS, ImplicitTLS bool
	// Auth demands Username and Password.
	Auth bool
	// NoUTF8 does not offer SMTPUTF8.
	NoUTF8 bool
	// Rcpt and Data, if they are there, may refuse. Data is called when DATA has been answered with 354; c is the connection. If it
	// returns ErrDropped, the message is taken, and the connection dropped without an answer.
	Rcpt func(to string) error
	Data func(to string, r io.Reader, c net.Conn) error
}

// ErrDropped is described at Options.Data.
var ErrDropped = errors.New("dropped")

// Mail is a message that was taken.
type Mail struct {
	From, To string
	Data     string
	// TLS reports whether the message came over TLS. User is the name that signed in.
	TLS  bool
	User string
	// UTF8 reports whether the sender asked for SMTPUTF8.
	UTF8 bool
}

// Server is a running server.
type Server struct {
	// Address is host:port.
	Address string
	// CAFile has the certificate that it shows.
	CAFile string

	o    Options
	smtp *smtp.Server
	l    net.Listener
	mu   sync.Mutex
	mail []Mail
	all  sync.WaitGroup
}

// New starts a server that ends with the test.
func New(t testing.TB, o Options) *Server {
	t.Helper()
	server := &Server{o: o}
	cert, ca := certificate(t)
	server.CAFile = ca
	server.smtp = smtp.NewServer(server)
	server.smtp.Domain = "localhost"
	server.smtp.MaxMessageBytes = 1 << 20
	server.smtp.MaxRecipients = 1
	server.smtp.EnableSMTPUTF8 = !o.NoUTF8
	server.smtp.ErrorLog = discard{}
	config := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if !o.NoTLS && !o.ImplicitTLS {
		server.smtp.TLSConfig = config
	}
	server.smtp.AllowInsecureAuth = o.NoTLS
	if o.Address == "" {
		o.Address = "127.0.0.1:0"
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", o.Address)
	if err != nil {
		t.Fatal(err)
	}
	server.Address = listener.Addr().String()
	if o.ImplicitTLS {
		listener = tls.NewListener(listener, config)
	}
	server.l = listener
	server.all.Go(func() { _ = server.smtp.Serve(listener) })
	t.Cleanup(server.Stop)
	return server
}

// Stop ends the server and its connections.
func (s *Server) Stop() {
	_ = s.l.Close() // which the server may not have been told of yet
	_ = s.smtp.Close()
	s.all.Wait()
}

// Mail returns what was taken so far.
func (s *Server) Mail() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mail)
}

// take keeps a message.
func (s *Server) take(m Mail) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mail = append(s.mail, m)
}

type discard struct{}

func (discard) Printf(string, ...any) {}
func (discard) Println(...any)        {}

// NewSession is go-smtp's.
func (s *Server) NewSession(c *smtp.Conn) (smtp.Session, error) {
	return &session{server: s, conn: c}, nil
}

type session struct {
	server *Server
	conn   *smtp.Conn
	mail   Mail
	user   string
}

func (s *session) AuthMechanisms() []string {
	if !s.server.o.Auth {
		return nil
	}
	return []string{sasl.Plain}
}

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, username, password string) error {
		if username != Username || password != Password {
			return &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: "not " + password}
		}
		s.user = username
		return nil
	}), nil
}

func (s *session) Mail(from string, o *smtp.MailOptions) error {
	if s.server.o.Auth && s.user == "" {
		return smtp.ErrAuthRequired
	}
	_, secure := s.conn.TLSConnectionState()
	s.mail = Mail{From: from, TLS: secure || s.server.o.ImplicitTLS, User: s.user, UTF8: o.UTF8}
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.mail.To = to
	if s.server.o.Rcpt != nil {
		return s.server.o.Rcpt(to)
	}
	return nil
}

func (s *session) Data(r io.Reader) error {
	var kept keeper
	all := io.TeeReader(r, &kept)
	var err error
	if s.server.o.Data != nil {
		err = s.server.o.Data(s.mail.To, all, s.conn.Conn())
	}
	if err != nil && !errors.Is(err, ErrDropped) {
		return err
	}
	if _, err := io.Copy(io.Discard, all); err != nil {
		return err
	}
	s.mail.Data = string(kept)
	s.server.take(s.mail)
	if err != nil {
		_ = s.conn.Conn().Close()
	}
	return err
}

func (s *session) Reset()        {}
func (s *session) Logout() error { return nil }

type keeper []byte

func (k *keeper) Write(p []byte) (int, error) {
	*k = append(*k, p...)
	return len(p), nil
}

// certificate is made for the test, for 127.0.0.1.
func certificate(t testing.TB) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "smtptest"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}
