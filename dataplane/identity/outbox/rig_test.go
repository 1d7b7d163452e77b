package outbox

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/mail"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/logtest"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/smtptest"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

const (
	acme, globex = "acme/support", "globex/sales"
	from         = "Caly <no-reply@caly.example>"
	poll         = 50 * time.Millisecond
	shortLease   = 2 * time.Second
)

func testKey() []byte { return bytes.Repeat([]byte{7}, mail.KeySize) }

func known(tenants ...string) func() []string { return func() []string { return tenants } }

// write puts mail into the outbox, as the flows do.
func write(t *testing.T, pg *pgtest.Server, tenant, event string, m mail.Message) {
	t.Helper()
	row, err := mail.Seal(testKey(), tenant, m, event, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	pg.Exec(
		t,
		`INSERT INTO mail_outbox (tenant, event_key, template, recipient, sealed, expires_at) VALUES ($1, $2, $3, $4, $5, $6)`,
		tenant,
		row.EventKey,
		row.Template,
		row.Recipient,
		row.Sealed,
		row.ExpiresAt,
	)
}

func code(n int) mail.Message {
	return mail.Message{
		Template: mail.VerifyEmail,
		To:       fmt.Sprintf("p%d@example.com", n),
		Data:     mail.Data{Service: "Acme", Code: "482913", ValidFor: time.Hour},
	}
}

// states counts the rows in each state.
func states(t *testing.T, pg *pgtest.Server) string {
	t.Helper()
	return pgtest.Value[string](t, pg, `SELECT coalesce(string_agg(of_state, ' ' ORDER BY of_state), '')
		FROM (SELECT state || '=' || count(*) AS of_state FROM mail_outbox GROUP BY state) AS counts`)
}

// until waits for what a loaded machine needs longer for.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	eventually.Within(time.Minute).Holds(t, what, holds)
}

func untilStates(t *testing.T, pg *pgtest.Server, want string) {
	t.Helper()
	eventually.Within(time.Minute).Reaches(t, want, func(context.Context) (bool, string) {
		got := states(t, pg)
		return got == want, got
	})
}

// pod is a dispatcher that runs, and what it says.
type pod struct {
	*Dispatcher
	registry *prometheus.Registry
	log      *logtest.Buffer
	// cancel tells it to go, and stop waits until it has.
	cancel, stop func()
}

// newSender leads to a server, and does not wait long for it.
func newSender(t *testing.T, s *smtptest.Server) *mail.Sender {
	t.Helper()
	sender, err := mail.NewSender(mail.Options{
		Address: s.Address,
		CAFile:  s.CAFile,
		From:    from,
		Timeout: 5 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	return sender
}

// start runs a pod until the test ends, or stop.
func start(t *testing.T, pg *pgtest.Server, o Options) *pod {
	t.Helper()
	p := &pod{registry: prometheus.NewRegistry(), log: &logtest.Buffer{}}
	if o.Store == nil {
		o.Store = storetest.Open(t, pg.DataplaneDSN, store.OpenDataplane)
	}
	if o.Tenants == nil {
		o.Tenants = known(acme)
	}
	if o.Key == nil {
		o.Key = testKey
	}
	if o.Poll == 0 {
		o.Poll = poll
	}
	o.Owner = "pod"
	o.Registerer = p.registry
	o.Log = slog.New(p.log.Handler())
	p.Dispatcher = New(o)
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := p.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	p.stop = sync.OnceFunc(func() {
		cancel()
		<-done
		for _, secret := range []string{"example.com", "482913"} {
			if strings.Contains(p.log.String(), secret) {
				t.Errorf("%q was logged:\n%s", secret, p.log)
			}
		}
	})
	t.Cleanup(p.stop)
	return p
}

// count is the value of a metric with a label of that value, or of none.
func (p *pod) count(t testing.TB, name, outcome string) (n float64) {
	t.Helper()
	families, err := p.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			matches := outcome == ""
			for _, l := range m.GetLabel() {
				matches = matches || l.GetValue() == outcome
			}
			if f.GetName() == name && matches {
				n += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return n
}

// times counts the messages to each recipient.
func times(mails []smtptest.Mail) map[string]int {
	n := map[string]int{}
	for _, m := range mails {
		n[m.To]++
	}
	return n
}
