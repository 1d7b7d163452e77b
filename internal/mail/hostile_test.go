package mail

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/wneessen/go-mail/smtp"
)

// dialogue is a server that says fixed things: an answer to each line that it is sent, and then no more.
func dialogue(t *testing.T, greeting string, answers ...string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, greeting)
		reader := bufio.NewReader(conn)
		for _, a := range answers {
			if _, err := reader.ReadString('\n'); err != nil {
				return
			}
			_, _ = io.WriteString(conn, a)
		}
		_, _ = io.Copy(io.Discard, reader)
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return listener.Addr().String()
}

// TestHostileServers verifies that a send ends whatever the server answers, also if it is silent. The error says
// whether the message can be sent again.
func TestHostileServers(t *testing.T) {
	const hello = "220 hi\r\n"
	ehlo := "250-hi\r\n250 8BITMIME\r\n"
	for name, c := range map[string]struct {
		address func(t *testing.T) string
		want    Error
	}{
		"says nothing": {func(t *testing.T) string { return dialogue(t, "") }, Error{
			Kind:   Temporary,
			Server: true,
			Doing:  "connect",
		}},
		"speaks HTTP": {func(t *testing.T) string { return dialogue(t, "HTTP/1.1 400 Bad Request\r\n\r\n") }, Error{
			Kind:   Temporary,
			Server: true,
			Doing:  "connect",
		}},
		"sends us away": {func(t *testing.T) string { return dialogue(t, "554 no service here\r\n") }, Error{
			Kind:   Temporary,
			Server: true,
			Doing:  "connect",
			Code:   554,
		}},
		"never ends its line": {func(t *testing.T) string {
			return dialogue(t, "220 "+strings.Repeat("x", 2*maxAnswers))
		},
			Error{
				Kind:   Temporary,
				Server: true,
				Doing:  "connect",
			}},
		"never ends its answer": {func(t *testing.T) string {
			return dialogue(t, strings.Repeat("220-x\r\n", maxAnswers/4))
		},
			Error{Kind: Temporary, Server: true, Doing: "connect"}},
		"knows neither EHLO nor HELO": {func(t *testing.T) string {
			return dialogue(t, hello, "502 no\r\n", "502 no\r\n")
		},
			Error{Kind: Temporary, Server: true, Doing: "greet", Code: 502}},
		"falls silent at the sender": {func(t *testing.T) string { return dialogue(t, hello, ehlo) }, Error{
			Kind:   Temporary,
			Server: true,
			Doing:  "name the sender",
		}},
		"does not like the sender": {func(t *testing.T) string { return dialogue(t, hello, ehlo, "553 who?\r\n") },
			Error{Kind: Temporary, Server: true, Doing: "name the sender", Code: 553}},
		"falls silent at DATA": {func(t *testing.T) string {
			return dialogue(t, hello, ehlo, "250 ok\r\n", "250 ok\r\n")
		},
			Error{Kind: Temporary, Server: true, Doing: "begin the message"}},
		"takes no message": {func(t *testing.T) string {
			return dialogue(t, hello, ehlo, "250 ok\r\n", "250 ok\r\n", "554 no valid recipients\r\n")
		},
			Error{Kind: Permanent, Doing: "begin the message", Code: 554}},
		"falls silent after the dot": {func(t *testing.T) string {
			return dialogue(t, hello, ehlo, "250 ok\r\n", "250 ok\r\n", "354 go\r\n")
		},
			Error{Kind: Uncertain, Server: true, Doing: "give it the message"}},
		"answers the dot with a riddle": {func(t *testing.T) string {
			return dialogue(t, hello, ehlo, "250 ok\r\n", "250 ok\r\n", "354 go\r\n354 go on\r\n")
		},
			Error{Kind: Uncertain, Server: true, Doing: "give it the message"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sender := newSender(t, Options{Address: c.address(t), TLS: NoTLS, Timeout: 300 * time.Millisecond})
			var got *Error
			err := sender.Send(t.Context(), examples["verify_email"], envelope, nil)
			if !errors.As(err, &got) || got.Kind != c.want.Kind || got.Server != c.want.Server ||
				got.Doing != c.want.Doing ||
				got.Code != c.want.Code {
				t.Errorf("err = %+v (%v), want %+v", got, err, c.want)
			}
		})
	}
}

func TestTakenInItsOwnWay(t *testing.T) {
	address := dialogue(t, "220 hi\r\n", "250 hi\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n251 taken\r\n")
	sender := newSender(t, Options{Address: address, TLS: NoTLS})
	if err := sender.Send(t.Context(), examples["verify_email"], envelope, nil); err != nil {
		t.Errorf("err = %v: what has been taken would be sent again", err)
	}
}

// TestPasswordStaysHome verifies that a server without TLS, or an attacker that hides STARTTLS, does not get the
// password.
func TestPasswordStaysHome(t *testing.T) {
	for _, mechanism := range []string{"PLAIN", "LOGIN"} {
		local, remote := net.Pipe()
		defer func() { _ = remote.Close() }()
		heard := make(chan []byte, 1)
		go func() {
			var all bytes.Buffer
			reader := bufio.NewReader(io.TeeReader(remote, &all))
			_, _ = io.WriteString(remote, "220 hi\r\n")
			_, _ = reader.ReadString('\n')
			_, _ = io.WriteString(remote, "250-hi\r\n250 AUTH "+mechanism+"\r\n")
			_, _ = reader.ReadString('\n')
			_, _ = io.WriteString(remote, "221 bye\r\n")
			_, _ = io.Copy(io.Discard, reader)
			heard <- all.Bytes()
		}()
		sender, err := NewSender(Options{
			Address:  "mail.example.com:25",
			From:     from,
			TLS:      StartTLSOpportunistic,
			Username: "caly",
			Password: "pw-canary",
		})
		if err != nil {
			t.Fatal(err)
		}
		c := &session{raw: local, timeout: time.Second, stop: func() bool { return true }}
		if err := c.open(t.Context(), sender); err == nil {
			t.Errorf("%s: signed in", mechanism)
		}
		c.end()
		if said := <-heard; len(said) == 0 || bytes.Contains(said, []byte("AUTH")) {
			t.Errorf("%s: said %q", mechanism, said)
		}
	}
}

// TestBrokenOffBeforeTheDot verifies that the sender does not write the end of a message that it could not write in
// full. A server that reads the rest later must not accept it.
func TestBrokenOffBeforeTheDot(t *testing.T) {
	local, remote := net.Pipe()
	heard := make(chan []byte, 1)
	stalled := make(chan struct{})
	go func() {
		var all bytes.Buffer
		reader := bufio.NewReaderSize(remote, 16)
		_, _ = io.WriteString(remote, "220 hi\r\n")
		for _, a := range []string{"250 hi\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n"} {
			_, _ = reader.ReadString('\n')
			_, _ = io.WriteString(remote, a)
		}
		<-stalled
		_, _ = io.Copy(&all, reader)
		heard <- all.Bytes()
	}()
	c := &session{raw: local, timeout: 100 * time.Millisecond, stop: func() bool { return true }}
	_ = local.SetDeadline(time.Now().Add(5 * time.Second))
	var err error
	if c.smtp, err = smtp.NewClient(local, "mail.example.com"); err != nil {
		t.Fatal(err)
	}
	if err := c.smtp.Hello("caly"); err != nil {
		t.Fatal(err)
	}
	data := []byte(strings.Repeat("a line\r\n", 100))
	var got *Error
	err = c.deliver(t.Context(), outgoing{from: "a@b.c", to: "d@e.f", data: data}, nil)
	if !errors.As(err, &got) || got.Kind != Temporary {
		t.Errorf("err = %v, want a temporary one", err)
	}
	close(stalled)
	c.end()
	if said := <-heard; bytes.Contains(said, []byte("\r\n.\r\n")) {
		t.Errorf("the message was ended: %q", said)
	}
}
