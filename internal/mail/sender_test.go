package mail

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/testkit/smtptest"
)

const from = "Caly <no-reply@caly.example>"

func newSender(t *testing.T, o Options) *Sender {
	t.Helper()
	o.From = from
	sender, err := NewSender(o)
	if err != nil {
		t.Fatal(err)
	}
	return sender
}

var envelope = Envelope{ID: "0123456789abcdef", Date: when}

func TestSend(t *testing.T) {
	passwordFile := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(passwordFile, []byte(smtptest.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		server smtptest.Options
		sender Options
		to     string
		want   smtptest.Mail
	}{
		"STARTTLS": {want: smtptest.Mail{TLS: true}},
		"STARTTLS and AUTH": {
			server: smtptest.Options{Auth: true},
			sender: Options{Username: smtptest.Username, Password: smtptest.Password},
			want:   smtptest.Mail{TLS: true, User: smtptest.Username},
		},
		"a password from a file": {
			server: smtptest.Options{Auth: true},
			sender: Options{Username: smtptest.Username, PasswordFile: passwordFile},
			want:   smtptest.Mail{TLS: true, User: smtptest.Username},
		},
		"TLS from the first byte": {
			server: smtptest.Options{ImplicitTLS: true, Auth: true},
			sender: Options{TLS: ImplicitTLS, Username: smtptest.Username, Password: smtptest.Password},
			want:   smtptest.Mail{TLS: true, User: smtptest.Username},
		},
		"opportunistic, where there is TLS": {
			sender: Options{TLS: StartTLSOpportunistic},
			want:   smtptest.Mail{TLS: true},
		},
		"opportunistic, where there is none": {
			server: smtptest.Options{NoTLS: true},
			sender: Options{TLS: StartTLSOpportunistic},
		},
		"none, where there would be TLS": {sender: Options{TLS: NoTLS}},
		"a domain outside ASCII": {
			to:   "ann@bücher.example",
			want: smtptest.Mail{TLS: true, To: "ann@xn--bcher-kva.example"},
		},
		"a name outside ASCII": {
			to:   "jürgen@bücher.example",
			want: smtptest.Mail{TLS: true, To: "jürgen@xn--bcher-kva.example", UTF8: true},
		},
		"ASCII, where there is no SMTPUTF8": {server: smtptest.Options{NoUTF8: true}, want: smtptest.Mail{TLS: true}},
		"a domain, where there is no such": {
			server: smtptest.Options{NoUTF8: true},
			to:     "a@bücher.example",
			want:   smtptest.Mail{TLS: true, To: "a@xn--bcher-kva.example"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := smtptest.New(t, c.server)
			c.sender.Address = server.Address
			c.sender.CAFile = server.CAFile
			message := examples["verify_email"]
			if c.to != "" {
				message.To = c.to
			}
			if c.want.To == "" {
				c.want.To = message.To
			}
			if err := newSender(t, c.sender).Send(t.Context(), message, envelope, nil); err != nil {
				t.Fatal(err)
			}
			got := server.Mail()
			if len(got) != 1 {
				t.Fatalf("%d messages, want one", len(got))
			}
			p := parsed(t, []byte(got[0].Data))
			if id := p.Header.Get("Message-Id"); id != "<0123456789abcdef@caly.example>" ||
				!strings.Contains(got[0].Data, "482913") {
				t.Errorf("Message-ID %s of\n%s", id, got[0].Data)
			}
			c.want.From = "no-reply@caly.example"
			got[0].Data = ""
			if diff := cmp.Diff(c.want, got[0]); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// answer is a server's refusal, which quotes all that it should not.
func answer(code int, enhanced smtp.EnhancedCode) error {
	return &smtp.SMTPError{Code: code, EnhancedCode: enhanced, Message: "no: <ann@example.com> and 482913"}
}

func rcpt(err error) smtptest.Options {
	return smtptest.Options{Rcpt: func(string) error { return err }}
}

func TestFailures(t *testing.T) {
	other := smtptest.New(t, smtptest.Options{}) // another certificate
	for name, c := range map[string]struct {
		server  smtptest.Options
		sender  Options
		to      string
		closed  bool // there is no server
		want    Error
		wantIn  string
		arrives bool
	}{
		"no server": {closed: true, want: Error{Kind: Temporary, Server: true, Doing: "connect"}, wantIn: "refused"},
		"greylisted": {
			server: rcpt(answer(451, smtp.EnhancedCode{4, 7, 1})),
			want:   Error{Kind: Temporary, Doing: "name the recipient", Code: 451, Enhanced: "4.7.1"},
		},
		"no such recipient": {
			server: rcpt(answer(550, smtp.EnhancedCode{5, 1, 1})),
			want:   Error{Kind: Permanent, Doing: "name the recipient", Code: 550, Enhanced: "5.1.1"},
		},
		"going away": {
			server: rcpt(answer(421, smtp.EnhancedCode{4, 3, 2})),
			want:   Error{Kind: Temporary, Server: true, Doing: "name the recipient", Code: 421, Enhanced: "4.3.2"},
		},
		"message refused": {
			server: smtptest.Options{Data: func(_ string, r io.Reader, _ net.Conn) error {
				_, _ = io.Copy(io.Discard, r)
				return answer(554, smtp.EnhancedCode{5, 7, 1})
			}},
			want: Error{Kind: Temporary, Doing: "give it the message", Code: 554, Enhanced: "5.7.1"},
		},
		"message put off": {
			server: smtptest.Options{Data: func(_ string, r io.Reader, _ net.Conn) error {
				_, _ = io.Copy(io.Discard, r)
				return answer(452, smtp.EnhancedCode{4, 3, 1})
			}},
			want: Error{Kind: Temporary, Doing: "give it the message", Code: 452, Enhanced: "4.3.1"},
		},
		"lost after the dot": {
			server:  smtptest.Options{Data: func(string, io.Reader, net.Conn) error { return smtptest.ErrDropped }},
			want:    Error{Kind: Uncertain, Server: true, Doing: "give it the message"},
			wantIn:  "may have been delivered",
			arrives: true,
		},
		"no STARTTLS": {
			server: smtptest.Options{NoTLS: true},
			want:   Error{Kind: Temporary, Server: true, Doing: "start TLS"},
			wantIn: "nothing in clear",
		},
		"another's certificate": {
			sender: Options{CAFile: other.CAFile},
			want:   Error{Kind: Temporary, Server: true, Doing: "start TLS"},
			wantIn: "certificate",
		},
		"another's certificate, TLS from the first byte": {
			server: smtptest.Options{ImplicitTLS: true},
			sender: Options{CAFile: other.CAFile, TLS: ImplicitTLS},
			want:   Error{Kind: Temporary, Server: true, Doing: "connect with TLS"},
			wantIn: "certificate",
		},
		"wrong password": {
			server: smtptest.Options{Auth: true},
			sender: Options{Username: smtptest.Username, Password: "pw-canary"},
			want:   Error{Kind: Temporary, Server: true, Doing: "sign in", Code: 535, Enhanced: "5.7.8"},
		},
		"no password": {
			server: smtptest.Options{Auth: true},
			want:   Error{Kind: Temporary, Server: true, Doing: "name the sender", Code: 502, Enhanced: "5.7.0"},
		},
		"no AUTH there": {
			sender: Options{Username: smtptest.Username, Password: smtptest.Password},
			want:   Error{Kind: Temporary, Server: true, Doing: "sign in"},
			wantIn: "offers none of",
		},
		"a name that it cannot take": {
			server: smtptest.Options{NoUTF8: true},
			to:     "jürgen@example.com",
			want:   Error{Kind: Permanent, Doing: "name the recipient"},
			wantIn: "no addresses outside ASCII",
		},
		"a recipient of two": {
			to:     "a@b.c,d@e.f",
			want:   Error{Kind: Permanent, Doing: "write the message"},
			wantIn: "not fit to be sent",
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := smtptest.New(t, c.server)
			if c.closed {
				server.Stop()
			}
			c.sender.Address = server.Address
			if c.sender.CAFile == "" {
				c.sender.CAFile = server.CAFile
			}
			message := examples["verify_email"]
			if c.to != "" {
				message.To = c.to
			}
			err := newSender(t, c.sender).Send(t.Context(), message, envelope, nil)
			var got *Error
			if !errors.As(err, &got) {
				t.Fatalf("err = %v, want an *Error", err)
			}
			if diff := cmp.Diff(c.want, Error{
				Kind:     got.Kind,
				Server:   got.Server,
				Doing:    got.Doing,
				Code:     got.Code,
				Enhanced: got.Enhanced,
			}); diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
			if !strings.Contains(err.Error(), c.wantIn) {
				t.Errorf("err = %v, want %q in it", err, c.wantIn)
			}
			for _, secret := range []string{"ann@example.com", "jürgen", "482913", smtptest.Password, "pw-canary"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("err = %v, with %q in it", err, secret)
				}
			}
			if n := len(server.Mail()); (n == 1) != c.arrives {
				t.Errorf("%d messages arrived", n)
			}
		})
	}
}

// TestBeforeKeepsItBack verifies that an error of the callback prevents the send, and that Send returns it unchanged.
func TestBeforeKeepsItBack(t *testing.T) {
	server := smtptest.New(t, smtptest.Options{})
	sender := newSender(t, Options{Address: server.Address, CAFile: server.CAFile})
	stop := errors.New("stop")
	if err := sender.Send(
		t.Context(), examples["verify_email"], envelope, func(context.Context) error { return stop },
	); !errors.Is(err, stop) {
		t.Errorf("err = %v, want %v", err, stop)
	}
	called := false
	if err := sender.Send(t.Context(), examples["verify_email"], envelope, func(context.Context) error {
		called = len(server.Mail()) == 0
		return nil
	}); err != nil || !called || len(server.Mail()) != 1 {
		t.Errorf("err = %v, called before anything arrived: %v, %d arrived", err, called, len(server.Mail()))
	}
}

// TestNotAskedBeforeTheRecipientIsTaken verifies that Send does not run the callback when the server rejects the
// recipient.
func TestNotAskedBeforeTheRecipientIsTaken(t *testing.T) {
	server := smtptest.New(
		t, smtptest.Options{Rcpt: func(string) error { return answer(451, smtp.EnhancedCode{4, 7, 1}) }},
	)
	sender := newSender(t, Options{Address: server.Address, CAFile: server.CAFile})
	err := sender.Send(t.Context(), examples["verify_email"], envelope, func(context.Context) error {
		t.Error("asked")
		return nil
	})
	if err == nil {
		t.Error("sent")
	}
}

// TestCancelled verifies that the end of the context breaks off a send at once, in each phase of the dialogue.
func TestCancelled(t *testing.T) {
	for name, c := range map[string]struct {
		server func(cancel func()) smtptest.Options
		want   Kind
	}{
		"at the recipient": {func(cancel func()) smtptest.Options {
			return smtptest.Options{Rcpt: func(string) error { cancel(); return answer(451, smtp.EnhancedCode{4, 7, 1}) }}
		}, Temporary},
		"after the dot": {func(cancel func()) smtptest.Options {
			return smtptest.Options{Data: func(_ string, r io.Reader, c net.Conn) error {
				_, _ = io.Copy(io.Discard, r)
				cancel()
				_, _ = io.Copy(io.Discard, c) // until the sender is gone
				return io.ErrClosedPipe
			}}
		}, Uncertain},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			server := smtptest.New(t, c.server(cancel))
			sender := newSender(t, Options{Address: server.Address, CAFile: server.CAFile, Timeout: time.Minute})
			var got *Error
			if err := sender.Send(ctx, examples["verify_email"], envelope, nil); !errors.As(err, &got) ||
				got.Kind != c.want {
				t.Errorf("err = %v, want kind %d", err, c.want)
			}
		})
	}
}

func TestNewSenderRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"no port":          {Options{Address: "mail.example.com", From: from}, "not host:port"},
		"no host":          {Options{Address: ":25", From: from}, "not host:port"},
		"no sender":        {Options{Address: "a:25"}, "not an email address"},
		"a sender of two":  {Options{Address: "a:25", From: "a@b.c, d@e.f"}, "not an email address"},
		"sender not ASCII": {Options{Address: "a:25", From: "jürgen@example.com"}, "must be ASCII"},
		"unknown policy":   {Options{Address: "a:25", From: from, TLS: "starttls"}, "is not one of starttls-mandatory"},
		"no CA file":       {Options{Address: "a:25", From: from, CAFile: filepath.Join(dir, "ca.pem")}, "CA file"},
		"no certificate":   {Options{Address: "a:25", From: from, CAFile: os.Args[0]}, "holds no certificate"},
		"no password file": {Options{
			Address:      "a:25",
			From:         from,
			Username:     "u",
			PasswordFile: filepath.Join(dir, "pw"),
		}, "password file"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := NewSender(c.o); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("err = %v, want %q", err, c.want)
			}
		})
	}
}

// TestCredentialFault finds a password that was copied with a blank, and the like, before any mail is sent.
func TestCredentialFault(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	for name, tc := range map[string]struct{ user, password, want string }{
		"as it should be":              {"caly", "of-the-relay", ""},
		"a line break of the file":     {"caly", "of-the-relay\n", ""},
		"a blank":                      {"caly", "of-the-relay ", "the SMTP password begins or ends with a blank"},
		"a NUL":                        {"caly", "of-the-relay\x00", "the SMTP password has a NUL"},
		"a line break of the username": {"caly\n", "of-the-relay", "the SMTP user name ends in a line break"},
		"a username in quotes":         {`"caly"`, "of-the-relay", "the SMTP user name is in quotes"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(file, []byte(tc.password), 0o600); err != nil {
				t.Fatal(err)
			}
			sender := newSender(t, Options{Address: "a:25", Username: tc.user, PasswordFile: file})
			if got := sender.CredentialFault(); (got == "") != (tc.want == "") || !strings.HasPrefix(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
