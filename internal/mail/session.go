package mail

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/wneessen/go-mail/smtp"
)

// maxAnswers bounds what a server may say in one session, in bytes.
const maxAnswers = 256 << 10

// bounded is a connection that ends once too much has come over it: an answer is read into memory, however long it is.
type bounded struct {
	net.Conn
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("the server says too much")
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// session is one connection to the server.
type session struct {
	raw     net.Conn
	smtp    *smtp.Client
	timeout time.Duration
	stop    func() bool // ends what closes the connection once the context has ended
}

// step gives the next answer its time.
func (c *session) step() { c.wait(c.timeout) }

func (c *session) wait(
	d time.Duration,
) {
	_ = c.raw.SetDeadline(time.Now().Add(d))
} // a closed connection says so at its next use

// end closes the connection, and says so first as far as that needs no wait.
func (c *session) end() {
	if c.smtp != nil {
		c.wait(time.Second)
		_ = c.smtp.Quit()
	}
	c.stop()
	_ = c.raw.Close()
}

// open brings the session to where mail may be given. Whatever fails here says nothing of the message.
func (c *session) open(ctx context.Context, s *Sender) error {
	config, err := s.tlsConfig()
	if err != nil {
		return serverTrouble("connect", err)
	}
	conn := c.raw
	c.step()
	if s.o.TLS == ImplicitTLS {
		secure := tls.Client(c.raw, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			return serverTrouble("connect with TLS", err)
		}
		conn = secure
	}
	if c.smtp, err = smtp.NewClient(conn, s.host); err != nil {
		return serverTrouble("connect", err)
	}
	c.step()
	if err := c.smtp.Hello(cmp.Or(s.o.HELO, literal(c.raw.LocalAddr()))); err != nil {
		return serverTrouble("greet", err)
	}
	if err := c.secure(s.o.TLS, config); err != nil {
		return err
	}
	return c.authenticate(s)
}

// literal is an address as RFC 5321 (4.1.3) writes it in place of a host name.
func literal(local net.Addr) string {
	at, err := netip.ParseAddrPort(local.String())
	if err != nil {
		return "localhost"
	}
	addr := at.Addr().Unmap().WithZone("")
	if addr.Is6() {
		return "[IPv6:" + addr.String() + "]"
	}
	return "[" + addr.String() + "]"
}

// errNoStartTLS means that STARTTLS was not offered. The server, or an attacker on the path to it, can be the cause.
var errNoStartTLS = errors.New(
	"the server offers no STARTTLS, and the policy starttls-mandatory sends nothing in clear",
)

func (c *session) secure(policy TLSPolicy, config *tls.Config) error {
	if policy == ImplicitTLS || policy == NoTLS {
		return nil
	}
	if offered, _ := c.smtp.Extension("STARTTLS"); !offered {
		if policy == StartTLSOpportunistic {
			return nil
		}
		return serverTrouble("start TLS", errNoStartTLS)
	}
	c.step()
	if err := c.smtp.StartTLS(config); err != nil {
		return serverTrouble("start TLS", err)
	}
	return nil
}

func (c *session) authenticate(s *Sender) error {
	if s.o.Username == "" {
		return nil
	}
	_, offered := c.smtp.Extension("AUTH")
	auth, err := s.auth(offered)
	if err != nil {
		return serverTrouble("sign in", err)
	}
	c.step()
	if err := c.smtp.Auth(auth); err != nil {
		return serverTrouble("sign in", err)
	}
	return nil
}

// outgoing is a composed message with its addresses.
type outgoing struct {
	from, to string
	utf8     bool // an address is not ASCII
	data     []byte
}

// deliver sends one message to the server. Before is called once the server accepted the recipient; it may be nil.
func (c *session) deliver(ctx context.Context, m outgoing, before func(context.Context) error) error {
	if offered, _ := c.smtp.Extension("SMTPUTF8"); m.utf8 && !offered {
		return &Error{
			Kind:  Permanent,
			Doing: "name the recipient",
			Cause: errors.New("the server takes no addresses outside ASCII"),
		}
	}
	c.step()
	if err := c.smtp.Mail("<" + m.from + ">"); err != nil {
		return serverTrouble("name the sender", err)
	}
	c.step()
	if err := c.smtp.Rcpt("<" + m.to + ">"); err != nil {
		return refusal("name the recipient", err)
	}
	if before != nil {
		if err := before(ctx); err != nil {
			return err
		}
	}
	c.step()
	writeCloser, err := c.smtp.Data()
	if err != nil {
		return refusal("begin the message", err)
	}
	return c.write(writeCloser, m.data)
}

// write gives the server the message and its end, the dot.
func (c *session) write(w io.WriteCloser, data []byte) error {
	c.step()
	_, err := w.Write(data)
	if err == nil {
		err = c.smtp.Text.W.Flush()
	}
	if err != nil {
		_ = c.raw.Close() // before anything else is sent: the next command would end the message first, and have it delivered
		return refusal("write the message", err)
	}
	c.wait(4 * c.timeout)
	if err := w.Close(); err != nil {
		return finalAnswer(err)
	}
	return nil
}
