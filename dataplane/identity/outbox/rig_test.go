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

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/mail"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/smtptest"
)

const (
	acme, globex = "acme/support", "globex/sales"
	from         = "Caly <no-reply@caly.example>"
	poll         = 50 * time.Millisecond
	shortLease   = 2 * time.Second
)

func testKey() []byte { return bytes.Repeat([]byte{7}, mail.KeySize) }

func known(tenants ...string) func() []string { return func() []string { return tenants } }

// rig is one database, and pods on it.
type rig struct {
	*testing.T
	pg    *pgtest.Server
	admin *pgx.Conn
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{T: t, pg: pgtest.New(t)}
	r.connect()
	return r
}

func (r *rig) connect() {
	r.Helper()
	conn, err := pgx.Connect(r.Context(), r.pg.AdminDSN)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = conn.Close(context.Background()) })
	r.admin = conn
}

func (r *rig) exec(sql string, args ...any) {
	r.Helper()
	if _, err := r.admin.Exec(context.Background(), sql, args...); err != nil {
		r.Fatal(err)
	}
}

// write puts mail into the outbox, as the flows do.
func (r *rig) write(tenant, event string, m mail.Message) {
	r.Helper()
	row, err := mail.Seal(testKey(), tenant, m, event, time.Hour)
	if err != nil {
		r.Fatal(err)
	}
	r.exec(
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
func (r *rig) states() string {
	r.Helper()
	rows, _ := r.admin.Query(
		context.Background(),
		`SELECT state || '=' || count(*) FROM mail_outbox GROUP BY state ORDER BY state`,
	)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		r.Fatal(err)
	}
	return strings.Join(list, " ")
}

// until a condition holds.
func (r *rig) until(what string, holds func() bool) {
	r.Helper()
	eventually.Within(time.Minute).Holds(r, what, holds)
}

func (r *rig) untilStates(want string) {
	r.Helper()
	eventually.Within(time.Minute).Reaches(r, want, func(context.Context) (bool, string) {
		got := r.states()
		return got == want, got
	})
}

// pod is a dispatcher that runs, and what it says.
type pod struct {
	*Dispatcher
	registry *prometheus.Registry
	log      *logLines
	// cancel tells it to go, and stop waits until it has.
	cancel, stop func()
}

type logLines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (r *rig) db() *store.Dataplane {
	r.Helper()
	db, err := store.OpenDataplane(r.Context(), r.pg.DataplaneDSN, store.Options{})
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(db.Close)
	return db
}

// sender leads to a server, and does not wait long for it.
func (r *rig) sender(s *smtptest.Server) *mail.Sender {
	r.Helper()
	sender, err := mail.NewSender(mail.Options{
		Address: s.Address,
		CAFile:  s.CAFile,
		From:    from,
		Timeout: 5 * time.Second,
	})
	if err != nil {
		r.Fatal(err)
	}
	return sender
}

// start runs a pod until the test ends, or stop.
func (r *rig) start(o Options) *pod {
	r.Helper()
	p := &pod{registry: prometheus.NewRegistry(), log: &logLines{}}
	if o.Store == nil {
		o.Store = r.db()
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
	o.Log = slog.New(slog.NewTextHandler(p.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	p.Dispatcher = New(o)
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := p.Run(ctx); err != nil {
			r.Error(err)
		}
	}()
	p.stop = sync.OnceFunc(func() {
		cancel()
		<-done
		for _, secret := range []string{"example.com", "482913"} {
			if strings.Contains(p.log.String(), secret) {
				r.Errorf("%q was logged:\n%s", secret, p.log)
			}
		}
	})
	r.Cleanup(p.stop)
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
