package store_test

import (
	"bytes"
	"context"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/store"
)

const (
	plainURL  = "https://recordings.exotel.com/x/c1.mp3"
	signedURL = plainURL + "?Signature=s3cret"
)

// dropQuery is a simple Redactor.
func dropQuery(e store.RawEvent, source string) (store.RawEvent, bool) {
	if source != plainURL || !bytes.Contains(e.Raw, []byte("s3cret")) && !strings.Contains(e.Query, "s3cret") {
		return e, false
	}
	e.Raw = bytes.ReplaceAll(e.Raw, []byte("?Signature=s3cret"), nil)
	e.Query = strings.ReplaceAll(e.Query, "?Signature=s3cret", "")
	return e, true
}

// secrets counts the rows of all tables of tenants that hold the signature.
func (f *fixture) secrets(t *testing.T) map[string]int {
	t.Helper()
	found := map[string]int{}
	for _, table := range f.tables(t) {
		const inBytes = "733363726574" // as a bytea is shown
		n := f.Number(
			t, `SELECT count(*) FROM `+table+` t WHERE t::text LIKE '%s3cret%' OR t::text LIKE '%`+inBytes+`%'`,
		)
		if n > 0 {
			found[table] = n
		}
	}
	return found
}

// TestSignatureIsDeletedAfterUpload uploads a recording with a signed URL, and looks for the signature in every table.
func TestSignatureIsDeletedAfterUpload(t *testing.T) {
	fixture := newFixture(t)
	ingest := func(tenant, eventType string) {
		t.Helper()
		event := newEvent(tenant, "c1", eventType, store.CallCompleted, signedURL)
		event.Raw = []byte("RecordingUrl=" + signedURL)
		event.Query = "RecordingUrl=" + signedURL
		event.Stream = &store.Stream{SID: "s1", RecordingURL: signedURL}
		if _, err := fixture.Dataplane.IngestBatch(t.Context(), []store.Event{event}); err != nil {
			t.Fatal(err)
		}
	}
	redact := func(want int64) {
		t.Helper()
		if n, err := fixture.Operator.RedactURLs(t.Context(), 100, dropQuery); err != nil || n != want {
			t.Errorf("%d events are redacted, %v, want %d", n, err, want)
		}
	}
	for _, eventType := range []string{"answered", "terminal"} {
		ingest(acme, eventType)
	}
	ingest(globex, "terminal") // not uploaded
	redact(0)
	list, err := fixture.upload.Claim(t.Context(), "w", 10, time.Minute)
	if err != nil || len(list) != 1 || list[0].SourceURL != signedURL {
		t.Fatalf("claimed %v, %v", list, err)
	}
	result := store.Result{Bucket: "b", Key: "k", Size: 1, SHA256: strings.Repeat("a", 64)}
	if err := fixture.upload.Complete(t.Context(), "w", list[0].ID, result); err != nil {
		t.Fatal(err)
	}
	redact(2)
	want := map[string]int{"recordings": 1, "call_events": 1, "call_streams": 1} // the other tenant's
	if got := fixture.secrets(t); !maps.Equal(got, want) {
		t.Errorf("the signature is in %v, want %v", got, want)
	}
	redact(0)

	// An event that comes late. The recording is not uploaded again.
	ingest(acme, "late")
	redact(0)
	fixture.Exec(t, `UPDATE url_redactions SET due_at = now()`)
	redact(1)
	if n := fixture.Number(t, `SELECT count(*) FROM recordings WHERE tenant = '`+acme+`'`); n != 0 {
		t.Errorf("%d recordings wait", n)
	}
	fixture.Exec(t, `UPDATE url_redactions SET due_at = now()`)
	redact(0)
	if n := fixture.Number(t, `SELECT count(*) FROM url_redactions`); n != 0 {
		t.Errorf("%d redactions wait after the last pass", n)
	}
}

// TestPlainURLNeedsNoRedaction uploads a recording without a query.
func TestPlainURLNeedsNoRedaction(t *testing.T) {
	fixture := newFixture(t)
	id := fixture.enqueue(t, acme, 1)[0]
	if _, err := fixture.upload.Claim(t.Context(), "w", 1, time.Minute); err != nil {
		t.Fatal(err)
	}
	result := store.Result{Bucket: "b", Key: "k", Size: 1, SHA256: strings.Repeat("a", 64)}
	if err := fixture.upload.Complete(t.Context(), "w", id, result); err != nil {
		t.Fatal(err)
	}
	if n := fixture.Number(t, `SELECT count(*) FROM url_redactions`); n != 0 {
		t.Errorf("%d redactions wait", n)
	}
}

// runAs runs a statement on a connection of its own.
func runAs(t *testing.T, dsn, sql string) error {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	_, err = conn.Exec(t.Context(), sql)
	return err
}

// TestRedactionsOfUploads lets an upload role name another tenant's recordings, and read what is to be redacted.
func TestRedactionsOfUploads(t *testing.T) {
	fixture := newFixture(t)
	insert := `INSERT INTO url_redactions (tenant, call_sid, source) VALUES ('` + globex + `', 'c', 's')`
	if err := runAs(t, fixture.uploadDSN, insert); err == nil {
		t.Error("the upload role adds a row of another tenant")
	}
	if err := runAs(t, fixture.uploadDSN, `SELECT * FROM url_redactions`); err == nil {
		t.Error("the upload role reads the table")
	}
}
