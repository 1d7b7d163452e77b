package diagnosis

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/caly-dev/caly/internal/doctor"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/store"
)

// Bounds of a healthy server.
const (
	slowTransaction = time.Second
	// mostClock is how far clocks may differ: signed webhooks and tokens have times.
	mostClock = 5 * time.Second
	// oldTransaction keeps dead rows from being removed.
	oldTransaction = 10 * time.Minute
	// oldestXID is where autovacuum should have been for long; PostgreSQL stops at about 2 billion.
	oldestXID = 1_000_000_000
	// leastVersion is the oldest server that Caly is tested with.
	leastVersion = 150000
)

// database makes a transaction and asks the server about itself.
func (d *Diagnosis) database(ctx context.Context) []doctor.Finding {
	h, err := d.Store.Health(ctx)
	if err != nil {
		return one(
			doctor.Critical,
			err.Error(),
			"see docs/runbooks/CalyDatabaseDown.md; webhooks are answered 503 until it works",
		)
	}
	found := judge(h)
	if len(found) == 0 {
		route := "directly"
		if h.Pooled {
			route = "through a pooler"
		}
		return one(doctor.OK, fmt.Sprintf("%s answered a transaction in %s, %s, as %s, schema %d",
			h.Name(), h.Took.Round(time.Millisecond), route, h.User, h.Schema), "")
	}
	return found
}

// judge returns what is wrong with a server.
func judge(h store.Health) (found []doctor.Finding) {
	add := func(wrong bool, severity doctor.Severity, message, fix string) {
		if wrong {
			found = append(found, doctor.Finding{Severity: severity, Message: message, Fix: fix})
		}
	}
	add(h.Schema != h.WantSchema, doctor.Critical,
		fmt.Sprintf("the schema is at version %d and this operator needs %d", h.Schema, h.WantSchema),
		`run "caly migrate up", or upgrade the release`)
	add(
		len(h.Missing) > 0,
		doctor.Critical,
		"roles do not exist: "+strings.Join(h.Missing, ", "),
		`run "caly migrate up"`,
	)
	add(
		len(h.Unbound) > 0, doctor.Critical,
		"row-level security does not bind the roles "+strings.Join(
			h.Unbound, ", ",
		)+": they are superusers or have BYPASSRLS",
		"let an administrator run ALTER ROLE ... NOSUPERUSER NOBYPASSRLS",
	)
	for _, name := range []string{"fsync", "full_page_writes", "synchronous_commit"} {
		add(h.Settings[name] == "off", doctor.Critical,
			name+" is off: events that were answered 200 can be lost with the server",
			"set "+name+" to on in PostgreSQL's configuration, or reset it for the role")
	}
	add(len(h.Unsafe) > 0, doctor.Critical,
		"the roles "+strings.Join(h.Unsafe, ", ")+
			" have synchronous_commit=off: events that were answered 200 can be lost with the server",
		"run ALTER ROLE ... RESET synchronous_commit")
	add(h.Settings["autovacuum"] == "off", doctor.Warning, "autovacuum is off", "set autovacuum to on")
	add(h.Version < leastVersion, doctor.Warning, h.Name()+" is older than the versions that Caly is tested with",
		"upgrade PostgreSQL; see docs/compatibility.md")
	add(
		h.Took > slowTransaction, doctor.Warning,
		fmt.Sprintf("a transaction took %s", h.Took.Round(time.Millisecond)),
		"look at the server's load and the network to it",
	)
	add(h.Clock.Abs()-h.Took > mostClock, doctor.Warning,
		fmt.Sprintf("the server's clock and the operator's differ by %s", h.Clock.Abs().Round(time.Second)),
		"synchronise the clocks of the nodes and of the server")
	add(h.MaxConnections > 0 && h.Connections*10 > h.MaxConnections*9, doctor.Warning,
		fmt.Sprintf("%d of %d connections of the server are open", h.Connections, h.MaxConnections),
		"raise max_connections or lower dataplane.database.*; see docs/how-to/prepare-the-database.md")
	add(h.LongestTransaction > oldTransaction, doctor.Warning,
		fmt.Sprintf("a transaction is open for %s", h.LongestTransaction.Round(time.Second)),
		"find it in pg_stat_activity; old rows are not removed until it ends")
	add(h.XIDAge > oldestXID, doctor.Critical, fmt.Sprintf("a database is %d transactions old", h.XIDAge),
		"run VACUUM FREEZE; PostgreSQL stops accepting writes at about 2 billion")
	return found
}

// role checks that row-level security binds the operator, and what the owner may do.
func (d *Diagnosis) role(ctx context.Context) []doctor.Finding {
	if err := d.Store.CheckRole(ctx); err != nil {
		return one(doctor.Critical, err.Error(), "correct the Secret of database.operatorSecret, or the role")
	}
	problems, err := d.Store.RepairRoles(ctx)
	if err != nil {
		return one(doctor.Warning, "the roles cannot be checked: "+err.Error(), `run "caly migrate up"`)
	}
	if len(problems) == 0 {
		return one(doctor.OK, "the roles and their memberships are complete", "")
	}
	var found []doctor.Finding
	for _, problem := range problems {
		found = append(found, one(doctor.Warning, problem, "let an administrator of PostgreSQL do that")...)
	}
	return found
}

// dead counts the events that could not be applied.
func (d *Diagnosis) dead(ctx context.Context) []doctor.Finding {
	counts, err := d.Store.TenantCounts(ctx, reason.Uploads())
	if err != nil {
		return one(doctor.Skipped, "dead events cannot be counted: "+err.Error(), "")
	}
	var found []doctor.Finding
	for _, dead := range counts.Dead {
		if dead.Count > 0 {
			found = append(found, doctor.Finding{
				Severity: doctor.Warning,
				Object:   dead.Tenant,
				Message: fmt.Sprintf("%d events are dead (%s), the oldest since %s",
					dead.Count, dead.Label, dead.Oldest.UTC().Format(time.RFC3339)),
				Fix: "see docs/how-to/correct-dead-events.md",
			})
		}
	}
	if len(found) == 0 {
		return one(doctor.OK, "every event was applied", "")
	}
	return found
}
