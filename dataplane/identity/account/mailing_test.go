package account_test

import (
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/dataplane/identity/account"
)

// postOffice is open or not, and counts who tells it of mail.
type postOffice struct {
	open  bool
	kicks atomic.Int32
}

func (p *postOffice) Enabled() bool { return p.open }
func (p *postOffice) Kick()         { p.kicks.Add(1) }

// TestMailing verifies that a flow notifies the outbox of its mail at once. Without a mail server, a flow that needs
// mail is refused and changes no row.
func TestMailing(t *testing.T) {
	for name, want := range map[string]struct{ open, closed int }{
		"register":        {http.StatusAccepted, http.StatusServiceUnavailable},
		"resend-code":     {http.StatusAccepted, http.StatusServiceUnavailable},
		"forgot-password": {http.StatusAccepted, http.StatusServiceUnavailable},
		"login":           {http.StatusOK, http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			stage := newStage(t)
			open := &postOffice{open: true}
			closed := &postOffice{}
			stage.addPod(t, func(o *account.Options) { o.Mail = closed })
			stage.addPod(t, func(o *account.Options) { o.Mail = open })
			flow, ok := flows[name]
			if !ok {
				flow = silent[name]
			}
			request := flow(stage)
			before := stage.rows(t)
			request.pod = stage.pods[2]
			if answer := stage.do(t, request); answer.Status != want.closed ||
				(answer.Status == http.StatusServiceUnavailable && answer.Code() != "unavailable") {
				t.Errorf("without a mail server: %d %s", answer.Status, answer.raw)
			}
			if d := cmp.Diff(before, stage.rows(t)); d != "" && want.closed != http.StatusOK {
				t.Errorf("rows changed (-before +after):\n%s", d)
			}
			request.pod = stage.pods[3]
			if answer := stage.do(t, request); answer.Status != want.open {
				t.Errorf("with one: %d %s", answer.Status, answer.raw)
			}
			wantKicks := int32(1)
			if want.closed == http.StatusOK {
				wantKicks = 0
			}
			if got := open.kicks.Load(); got != wantKicks || closed.kicks.Load() != 0 {
				t.Errorf("told of mail %d times, want %d; the closed one %d times", got, wantKicks, closed.kicks.Load())
			}
		})
	}
}
