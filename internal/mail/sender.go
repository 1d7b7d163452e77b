package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/wneessen/go-mail/smtp"

	"github.com/caly-dev/caly/internal/secret"
)

// TLSPolicy is how the connection to the SMTP server is protected.
type TLSPolicy string

// Policies.
const (
	// StartTLSMandatory refuses a server that does not offer STARTTLS.
	StartTLSMandatory TLSPolicy = "starttls-mandatory"
	// StartTLSOpportunistic sends in clear if the server, or an attacker on the way to it, offers no STARTTLS.
	StartTLSOpportunistic TLSPolicy = "starttls-opportunistic"
	// ImplicitTLS uses TLS from the first byte on, as on port 465.
	ImplicitTLS TLSPolicy = "implicit"
	// NoTLS sends in clear text.
	NoTLS TLSPolicy = "none"
)

// Options of NewSender.
type Options struct {
	// Address is host:port of the SMTP server.
	Address string
	// From is the sender: "Acme <no-reply@acme.example>" or a bare address.
	From string
	// Username, with Password or PasswordFile, which is read for each message, so that it may be rotated. Empty: no AUTH.
	// Neither goes over a connection in clear, but to localhost.
	Username     string
	Password     secret.Sensitive
	PasswordFile string
	// TLS; empty: StartTLSMandatory.
	TLS TLSPolicy
	// CAFile has the certificates to trust in place of the system's. It is read for each message.
	CAFile string
	// HELO is the host name of the greeting. Empty: the machine's name if it has a domain, else the address of the
	// connection as a literal. Many servers reject a name without a domain, such as a pod's.
	HELO string
	// Timeout of connecting and of each answer; 0: 15 s. The answer to the whole message may take four times that: to give up on
	// it leaves uncertain whether it was delivered.
	Timeout time.Duration
}

// Sender sends messages through one SMTP server, each over a connection of its own. It is safe for concurrent use.
type Sender struct {
	o    Options
	host string
	from *mail.Address
}

// NewSender checks the options. It does not connect.
func NewSender(o Options) (*Sender, error) {
	host, _, err := net.SplitHostPort(o.Address)
	if err != nil || host == "" {
		return nil, fmt.Errorf("the SMTP server's address %q is not host:port", o.Address)
	}
	from, err := mail.ParseAddress(o.From)
	if err != nil || !isASCII(from.Address) || strings.ContainsFunc(from.Name, unprintable) {
		return nil, fmt.Errorf(
			"the sender %q is not an email address such as \"Acme <no-reply@acme.example>\"; its address must be ASCII",
			o.From,
		)
	}
	if o.TLS == "" {
		o.TLS = StartTLSMandatory
	}
	if !slices.Contains([]TLSPolicy{StartTLSMandatory, StartTLSOpportunistic, ImplicitTLS, NoTLS}, o.TLS) {
		return nil, fmt.Errorf(
			"the SMTP TLS policy %q is not one of starttls-mandatory, starttls-opportunistic, implicit, none", o.TLS,
		)
	}
	if o.Timeout <= 0 {
		o.Timeout = 15 * time.Second
	}
	if strings.ContainsFunc(o.HELO, func(r rune) bool { return r <= ' ' || r > '~' }) || len(o.HELO) > 255 {
		return nil, fmt.Errorf("the SMTP greeting %q is not a host name", o.HELO)
	}
	if name, err := os.Hostname(); err == nil && o.HELO == "" && strings.Contains(name, ".") {
		o.HELO = name
	}
	sender := &Sender{o: o, host: host, from: from}
	if _, err := sender.tlsConfig(); err != nil {
		return nil, err
	}
	_, err = sender.password()
	return sender, err
}

func (s *Sender) tlsConfig() (*tls.Config, error) {
	cfg := &tls.Config{ServerName: s.host, MinVersion: tls.VersionTLS12}
	if s.o.CAFile == "" {
		return cfg, nil
	}
	pem, err := os.ReadFile(s.o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("the SMTP server's CA file: %w", err)
	}
	cfg.RootCAs = x509.NewCertPool()
	if !cfg.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("the SMTP server's CA file %s holds no certificate in PEM", s.o.CAFile)
	}
	return cfg, nil
}

// CredentialFault returns what is wrong with the bytes of the user name or the password; empty if nothing is.
// A line break at the end of the file does not count, since it is not sent.
func (s *Sender) CredentialFault() string {
	password, err := s.password()
	if fault := secret.Fault(password); err == nil && fault != "" {
		return "the SMTP password " + fault
	}
	if fault := secret.Fault(s.o.Username); fault != "" {
		return "the SMTP user name " + fault
	}
	return ""
}

func (s *Sender) password() (string, error) {
	if s.o.Username == "" || s.o.PasswordFile == "" {
		return s.o.Password.Reveal(), nil
	}
	data, err := os.ReadFile(s.o.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("the SMTP password file: %w", err)
	}
	return strings.TrimRight(string(data), "\r\n"), nil
}

// Send sends a message. before is called once the server takes the recipient and before it is given anything of the message: if it
// fails, nothing is sent and its error returned. Every other error is an *Error. before may be nil.
func (s *Sender) Send(ctx context.Context, m Message, e Envelope, before func(context.Context) error) error {
	to, utf8, err := mailbox(m.To)
	if err == nil {
		err = m.check()
	}
	if err != nil {
		return &Error{
			Kind:  Permanent,
			Doing: "write the message",
			Cause: errors.New("its recipient or contents are not fit to be sent"),
		}
	}
	data, err := compose(s.from, to, m, e)
	if err != nil {
		return &Error{Kind: Permanent, Doing: "write the message", Cause: err}
	}
	session, err := s.connect(ctx, !utf8)
	if err != nil {
		return err
	}
	defer session.end()
	return session.deliver(ctx, outgoing{from: s.from.Address, to: to, utf8: utf8, data: data}, before)
}

// connect returns a session that may send. It must be ended.
func (s *Sender) connect(ctx context.Context, skipUTF8 bool) (*session, error) {
	dialer := net.Dialer{Timeout: s.o.Timeout}
	raw, err := dialer.DialContext(ctx, "tcp", s.o.Address)
	if err != nil {
		return nil, serverTrouble("connect", err)
	}
	raw = &bounded{Conn: raw, left: maxAnswers}
	c := &session{raw: raw, timeout: s.o.Timeout, stop: context.AfterFunc(ctx, func() { _ = raw.Close() })}
	if err := c.open(ctx, s); err != nil {
		c.end()
		return nil, err
	}
	c.smtp.SkipSMTPUTF8(
		skipUTF8,
	) // some servers refuse what need not be, where it is relayed to one that cannot take it
	return c, nil
}

// Check connects and signs in, and sends nothing. Its error is one of Send.
func (s *Sender) Check(ctx context.Context) error {
	if fault := s.CredentialFault(); fault != "" {
		return serverTrouble("sign in", errors.New(fault))
	}
	session, err := s.connect(ctx, true)
	if err != nil {
		return err
	}
	session.end()
	return nil
}

// auth picks the mechanism: of those offered, the one that tells the server least.
func (s *Sender) auth(offered string) (smtp.Auth, error) {
	password, err := s.password()
	if err != nil {
		return nil, err
	}
	mechanisms := strings.Fields(strings.ToUpper(offered))
	for _, known := range []struct {
		name string
		auth smtp.Auth
	}{
		{"SCRAM-SHA-256", smtp.ScramSHA256Auth(s.o.Username, password)},
		{"PLAIN", smtp.PlainAuth("", s.o.Username, password, s.host, false)},
		{"LOGIN", smtp.LoginAuth(s.o.Username, password, s.host, false)},
		{"CRAM-MD5", smtp.CRAMMD5Auth(s.o.Username, password)},
	} {
		if slices.Contains(mechanisms, known.name) {
			return known.auth, nil
		}
	}
	return nil, errors.New("the server offers none of SCRAM-SHA-256, PLAIN, LOGIN and CRAM-MD5 on this connection")
}
