package outbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/mail"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/smtptest"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

// TestServerIsChecked has no mail to send: the metrics and the log report a server that cannot be used all the same.
func TestServerIsChecked(t *testing.T) {
	for name, tc := range map[string]struct {
		password   string // file; empty: no file
		closed     bool
		wantStep   string // empty: the server is usable
		wantLogged string
	}{
		"right":              {password: smtptest.Password},
		"a trailing newline": {password: smtptest.Password + "\n"},
		"wrong":              {password: "pw-canary", wantStep: "sign_in", wantLogged: "answered 535"},
		"a blank in front":   {password: " " + smtptest.Password, wantStep: "sign_in", wantLogged: "SMTP password"},
		"deleted":            {wantStep: "sign_in", wantLogged: "password file"},
		"no server":          {password: smtptest.Password, closed: true, wantStep: "connect", wantLogged: "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			pg := pgtest.New(t)
			server := smtptest.New(t, smtptest.Options{Auth: true})
			file := filepath.Join(t.TempDir(), "password")
			if err := os.WriteFile(file, []byte(smtptest.Password), 0o600); err != nil {
				t.Fatal(err)
			}
			sender, err := mail.NewSender(mail.Options{
				Address:      server.Address,
				CAFile:       server.CAFile,
				From:         from,
				Username:     smtptest.Username,
				PasswordFile: file,
				Timeout:      5 * time.Second,
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			if tc.password != "" {
				if err := os.WriteFile(file, []byte(tc.password), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if tc.closed {
				server.Stop()
			}
			dispatcher := New(Options{
				Sender:  sender,
				Key:     testKey,
				Tenants: known(),
				Store:   storetest.Open(t, pg.DataplaneDSN, store.OpenDataplane),
			})
			dispatcher.metrics.server(sender.Check(t.Context()))
			if got, want := dispatcher.metrics.usable() == 1, tc.wantStep == ""; got != want {
				t.Errorf("usable %v, want %v", got, want)
			}
			if tc.wantStep == "" {
				return
			}
			pod := start(t, pg, Options{Sender: sender})
			until(t, "the failure is counted", func() bool {
				return pod.count(t, "caly_mail_server_failures_total", tc.wantStep) == 1 &&
					pod.count(t, "caly_mail_server_usable", "") == 0
			})
			if said := pod.log.String(); !strings.Contains(said, tc.wantLogged) || strings.Contains(said, "pw-canary") {
				t.Errorf("it logs %s", said)
			}
		})
	}
}
