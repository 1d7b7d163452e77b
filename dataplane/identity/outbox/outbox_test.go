package outbox

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/mail"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/smtptest"
)

// TestEachOnce verifies that several pods with one database send each message once. The rows then have no secret.
func TestEachOnce(t *testing.T) {
	const n = 200
	pg := pgtest.New(t)
	server := smtptest.New(t, smtptest.Options{})
	for i := range n {
		write(t, pg, acme, fmt.Sprint(i), code(i))
	}
	pod := start(t, pg, Options{Sender: newSender(t, server)})
	b := start(t, pg, Options{Sender: newSender(t, server)})
	untilStates(t, pg, fmt.Sprintf("sent=%d", n))
	pod.stop()
	b.stop()
	got := times(server.Mail())
	for i := range n {
		if to := fmt.Sprintf("p%d@example.com", i); got[to] != 1 {
			t.Errorf("%s has %d messages, want one", to, got[to])
		}
	}
	if sa, sb := pod.count(t, "caly_mail_sent_total", outcomeSent), b.count(
		t, "caly_mail_sent_total", outcomeSent,
	); sa+sb != n || sa == 0 ||
		sb == 0 {
		t.Errorf("the pods counted %v and %v sent, want %d, and some each", sa, sb, n)
	}
	if left := pg.Number(
		t, `SELECT count(*) FROM mail_outbox WHERE sealed <> '' OR lease_owner IS NOT NULL OR finished_at IS NULL`,
	); left != 0 {
		t.Errorf("%d rows still hold something", left)
	}
	for _, m := range server.Mail() {
		if !m.TLS || !strings.Contains(m.Data, "482913") {
			t.Fatalf("not the message: %+v", m)
		}
	}
}

func refusal(code int, enhanced smtp.EnhancedCode) error {
	return &smtp.SMTPError{Code: code, EnhancedCode: enhanced, Message: "<p0@example.com> 482913"}
}

// TestQuirks verifies the end of a message with SMTP servers of each kind.
func TestQuirks(t *testing.T) {
	for name, c := range map[string]struct {
		// server of the nth try, from 1 on.
		rcpt      func(n int32) error
		data      func(n int32, r io.Reader) error
		message   mail.Message
		want      string
		wantMail  int
		wantTries int32
		wantError string
		wantCount map[string]float64
	}{
		"taken": {want: "sent=1", wantMail: 1, wantTries: 1, wantCount: map[string]float64{outcomeSent: 1}},
		"greylisted twice": {
			rcpt: func(n int32) error {
				if n <= 2 {
					return refusal(451, smtp.EnhancedCode{4, 7, 1})
				}
				return nil
			},
			want:      "sent=1",
			wantMail:  1,
			wantTries: 3,
			wantCount: map[string]float64{outcomeRetried: 2, outcomeSent: 1},
		},
		"no such recipient": {
			rcpt:      func(int32) error { return refusal(550, smtp.EnhancedCode{5, 1, 1}) },
			want:      "failed=1",
			wantTries: 1,
			wantError: "name the recipient: the SMTP server answered 550 5.1.1",
			wantCount: map[string]float64{outcomeFailed: 1},
		},
		"refused once it was read": {
			data: func(_ int32, r io.Reader) error {
				_, _ = io.Copy(io.Discard, r)
				return refusal(554, smtp.EnhancedCode{5, 6, 0})
			},
			want:      "failed=1",
			wantTries: 1,
			wantError: "give it the message: the SMTP server answered 554 5.6.0",
			wantCount: map[string]float64{outcomeFailed: 1},
		},
		"relay denied, then allowed": {
			rcpt: func(n int32) error {
				if n == 1 {
					return refusal(554, smtp.EnhancedCode{5, 7, 1})
				}
				return nil
			},
			want:      "sent=1",
			wantMail:  1,
			wantTries: 2,
			wantCount: map[string]float64{outcomeRetried: 1, outcomeSent: 1},
		},
		"put off once it was read": {
			data: func(n int32, r io.Reader) error {
				_, _ = io.Copy(io.Discard, r)
				if n == 1 {
					return refusal(452, smtp.EnhancedCode{4, 3, 1})
				}
				return nil
			},
			want:      "sent=1",
			wantMail:  1,
			wantTries: 2,
			wantCount: map[string]float64{outcomeRetried: 1, outcomeSent: 1},
		},
		"taken without an answer": {
			data:      func(int32, io.Reader) error { return smtptest.ErrDropped },
			want:      "uncertain=1",
			wantMail:  1,
			wantTries: 1,
			wantError: "may have been delivered",
			wantCount: map[string]float64{outcomeUncertain: 1},
		},
		"a decoy": {
			message:   mail.Message{Template: mail.None, To: "p0@example.com"},
			want:      "sent=1",
			wantCount: map[string]float64{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			pg := pgtest.New(t)
			var tries atomic.Int32
			server := smtptest.New(t, smtptest.Options{
				Rcpt: func(string) error {
					if n := tries.Add(1); c.rcpt != nil {
						return c.rcpt(n)
					}
					return nil
				},
				Data: func(_ string, body io.Reader, _ net.Conn) error {
					if c.data != nil {
						return c.data(tries.Load(), body)
					}
					return nil
				},
			})
			if c.message.Template == "" {
				c.message = code(0)
			}
			write(t, pg, acme, "e", c.message)
			pod := start(t, pg, Options{Sender: newSender(t, server)})
			until(t, c.want, func() bool {
				pg.Exec(t, `UPDATE mail_outbox SET available_at = now() WHERE lease_owner IS NULL`) // time passes
				return states(t, pg) == c.want
			})
			pod.stop()
			counts := map[string]float64{}
			for _, outcome := range []string{outcomeSent, outcomeRetried, outcomeFailed, outcomeExpired, outcomeUncertain} {
				if n := pod.count(t, "caly_mail_sent_total", outcome); n > 0 {
					counts[outcome] = n
				}
			}
			if diff := cmp.Diff(c.wantCount, counts); diff != "" {
				t.Errorf("counted (-want +got):\n%s", diff)
			}
			why := pgtest.Value[string](t, pg, `SELECT last_error FROM mail_outbox`)
			if !strings.Contains(why, c.wantError) || strings.Contains(why, "482913") {
				t.Errorf("last error %q, want %q", why, c.wantError)
			}
			if len(server.Mail()) != c.wantMail || tries.Load() != c.wantTries {
				t.Errorf(
					"%d messages after %d tries, want %d after %d",
					len(server.Mail()),
					tries.Load(),
					c.wantMail,
					c.wantTries,
				)
			}
		})
	}
}

// TestServerAwayThenBack verifies that mail waits for an unreachable server and is then sent once.
func TestServerAwayThenBack(t *testing.T) {
	pg := pgtest.New(t)
	server := smtptest.New(t, smtptest.Options{})
	sender := newSender(t, server)
	server.Stop()
	write(t, pg, acme, "e", code(0))
	pod := start(t, pg, Options{Sender: sender})
	var wait time.Duration
	until(t, "a try that fails", func() bool {
		wait = pgtest.Value[time.Duration](
			t, pg, `SELECT coalesce(max(available_at - now()), '0') FROM mail_outbox WHERE last_error LIKE 'connect%'`,
		)
		return wait != 0
	})
	if wait <= 0 || wait > firstWait {
		t.Errorf("the next try is in %s, want some seconds", wait)
	}
	pod.stop()
	back := smtptest.New(t, smtptest.Options{Address: server.Address})
	pg.Exec(t, `UPDATE mail_outbox SET available_at = now()`)
	pod = start(t, pg, Options{Sender: newSender(t, back)})
	untilStates(t, pg, "sent=1")
	pod.stop()
	if n := len(back.Mail()); n != 1 {
		t.Errorf("%d messages, want one", n)
	}
}

// TestTimeRunsOut verifies that an expired message is never sent.
func TestTimeRunsOut(t *testing.T) {
	pg := pgtest.New(t)
	server := smtptest.New(t, smtptest.Options{})
	write(t, pg, acme, "e", code(0))
	pg.Exec(t, `UPDATE mail_outbox SET expires_at = now(), last_error = 'connect: refused'`)
	pod := start(t, pg, Options{Sender: newSender(t, server)})
	untilStates(t, pg, "failed=1")
	// The row is changed before the pod knows it, so a pod that is stopped now may not count it.
	until(t, "it is counted", func() bool { return pod.count(t, "caly_mail_sent_total", outcomeExpired) == 1 })
	pod.stop()
	if n := len(server.Mail()); n != 0 {
		t.Errorf("%d messages, want none", n)
	}
}

// TestOtherTenantsAreLeftAlone shows that a pod leaves the rows of a tenant alone that it does not know.
func TestOtherTenantsAreLeftAlone(t *testing.T) {
	pg := pgtest.New(t)
	server := smtptest.New(t, smtptest.Options{})
	write(t, pg, globex, "waiting", code(1))
	write(t, pg, globex, "late", code(2))
	pg.Exec(t, `UPDATE mail_outbox SET expires_at = now() WHERE event_key = 'late'`)
	write(t, pg, globex, "dead", code(3))
	pg.Exec(
		t,
		`UPDATE mail_outbox SET state = 'sending', lease_owner = 'x', lease_until = now() - interval '1 h' WHERE event_key = 'dead'`,
	)
	snapshot := func() string {
		return pgtest.Value[string](
			t, pg, `SELECT string_agg(m::text, ' ' ORDER BY id) FROM mail_outbox m WHERE tenant = $1`, globex,
		)
	}
	before := snapshot()
	pod := start(t, pg, Options{Sender: newSender(t, server)})
	write(t, pg, acme, "own", code(0))
	until(t, "its own", func() bool { return len(server.Mail()) == 1 })
	pod.stop()
	if diff := cmp.Diff(before, snapshot()); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int{"p0@example.com": 1}, times(server.Mail())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestKilled verifies that a message whose pod was killed during its transfer is uncertain and not sent again. A
// message that the pod had only claimed is sent.
func TestKilled(t *testing.T) {
	pg := pgtest.New(t)
	inData := make(chan struct{}, 1)
	release := make(chan struct{})
	var first atomic.Bool
	server := smtptest.New(t, smtptest.Options{Data: func(to string, _ io.Reader, _ net.Conn) error {
		if to == "p0@example.com" && !first.Swap(true) {
			inData <- struct{}{}
			<-release
		}
		return nil
	}})
	write(t, pg, acme, "e", code(0))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(
		os.Environ(),
		"OUTBOX_TEST_DSN="+pg.DataplaneDSN,
		"OUTBOX_TEST_SMTP="+server.Address,
		"OUTBOX_TEST_CA="+server.CAFile,
	)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-inData
	if s := states(t, pg); s != "sending=1" {
		t.Errorf("while it is sent the row is %s, want sending", s)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	close(release)
	write(t, pg, acme, "claimed", code(1))
	pg.Exec(
		t,
		`UPDATE mail_outbox SET lease_owner = 'killed', lease_until = now() + interval '1 s', attempts = 1 WHERE event_key = 'claimed'`,
	)
	pod := start(t, pg, Options{Sender: newSender(t, server)})
	untilStates(t, pg, "sent=1 uncertain=1")
	pod.stop()
	got := times(server.Mail())
	if got["p0@example.com"] > 1 || got["p1@example.com"] != 1 {
		t.Errorf("arrived: %v; want p0 at most once, and p1 once", got)
	}
	if n := pod.count(t, "caly_mail_sent_total", outcomeUncertain); n != 1 {
		t.Errorf("%v counted as uncertain, want 1", n)
	}
	if log := pod.log.String(); !strings.Contains(log, "tenant="+acme) && !strings.Contains(log, `"tenant":"`+acme) {
		t.Errorf("the log does not name the tenant: %s", log)
	}
}

// TestStopped verifies that a pod that stops finishes its current messages and starts no other.
func TestStopped(t *testing.T) {
	pg := pgtest.New(t)
	inData := make(chan struct{}, workers)
	release := make(chan struct{})
	server := smtptest.New(t, smtptest.Options{Data: func(string, io.Reader, net.Conn) error {
		inData <- struct{}{}
		<-release
		return nil
	}})
	for i := range 10 {
		write(t, pg, acme, fmt.Sprint(i), code(i))
	}
	pod := start(t, pg, Options{Sender: newSender(t, server)})
	for range workers {
		<-inData
	}
	pod.cancel()
	close(release)
	pod.stop()
	if s, want := states(t, pg), fmt.Sprintf("pending=%d sent=%d", 10-workers, workers); s != want {
		t.Errorf("the rows are %s, want %s", s, want)
	}
}

// TestDatabaseAwayAfterSending verifies that a message that was sent during a database outage is not sent again after
// it.
func TestDatabaseAwayAfterSending(t *testing.T) {
	pg := pgtest.New(t)
	inData := make(chan struct{}, 1)
	release := make(chan struct{})
	server := smtptest.New(t, smtptest.Options{Data: func(string, io.Reader, net.Conn) error {
		inData <- struct{}{}
		<-release
		return nil
	}})
	write(t, pg, acme, "e", code(0))
	pod := start(t, pg, Options{Sender: newSender(t, server)})
	<-inData
	pg.StopFast(t)
	close(release)
	until(t, "its arrival", func() bool { return len(server.Mail()) == 1 })
	pg.Start(t)
	untilStates(t, pg, "sent=1")
	pod.stop()
	if n := len(server.Mail()); n != 1 {
		t.Errorf("%d messages, want one", n)
	}
}

// TestDisabled verifies that a pod without a mail server or a key claims no message. Enabled reports whether there is a
// server.
func TestDisabled(t *testing.T) {
	pg := pgtest.New(t)
	write(t, pg, acme, "e", code(0))
	off := start(t, pg, Options{})
	if off.Enabled() {
		t.Error("enabled without a sender")
	}
	server := smtptest.New(t, smtptest.Options{})
	var key []byte
	waits := start(t, pg, Options{Sender: newSender(t, server), Key: func() []byte { return key }})
	if !waits.Enabled() {
		t.Error("not enabled with a sender")
	}
	off.Kick()
	waits.Kick()
	until(t, "a look at the table", func() bool { return waits.count(t, "caly_mail_pending", "") == 1 })
	off.stop()
	waits.stop()
	if s := states(t, pg); s != "pending=1" {
		t.Errorf("the rows are %s: claimed by a pod that could not send", s)
	}
}

// TestKick verifies that a new message is sent at once after Kick, without a wait for the next poll.
func TestKick(t *testing.T) {
	pg := pgtest.New(t)
	server := smtptest.New(t, smtptest.Options{})
	pod := start(t, pg, Options{Sender: newSender(t, server), Poll: time.Hour})
	for i := range 3 {
		write(t, pg, acme, fmt.Sprint(i), code(i))
		pod.Kick()
		untilStates(t, pg, fmt.Sprintf("sent=%d", i+1))
	}
}

// TestUnreadable verifies that a message sealed under another key fails with a log line, and does not block other
// messages.
func TestUnreadable(t *testing.T) {
	pg := pgtest.New(t)
	server := smtptest.New(t, smtptest.Options{})
	write(t, pg, acme, "e", code(0))
	pg.Exec(t, `UPDATE mail_outbox SET sealed = 'something else', available_at = now() - interval '1 h'`)
	write(t, pg, acme, "good", code(1))
	pod := start(t, pg, Options{Sender: newSender(t, server)})
	untilStates(t, pg, "failed=1 sent=1")
	pod.stop()
	if !strings.Contains(pod.log.String(), "sealed under another key") {
		t.Errorf("the log does not say why:\n%s", pod.log)
	}
}

func TestWaits(t *testing.T) {
	for attempts, want := range map[int]time.Duration{
		0:       5 * time.Second,
		1:       5 * time.Second,
		2:       10 * time.Second,
		4:       40 * time.Second,
		7:       5 * time.Minute,
		1 << 30: 5 * time.Minute,
	} {
		if got := wait(attempts); got != want {
			t.Errorf("after %d attempts: %s, want %s", attempts, got, want)
		}
	}
	for range 1000 {
		if d := jittered(time.Second); d < time.Second/2 || d > time.Second {
			t.Fatalf("jittered to %s", d)
		}
	}
}

func TestReasonIsText(t *testing.T) {
	long := strings.Repeat("ж", 400)
	if got := reason(long); len(got) > maxReason || !strings.HasPrefix(long, got) || len(got) < maxReason-1 {
		t.Errorf("cut to %d bytes", len(got))
	}
}
