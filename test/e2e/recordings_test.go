//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// announced is a recording that a test announced and will look for.
type announced struct {
	callSID, sourceURL string
}

func (r announced) id() string { return recording.ID(r.callSID, r.sourceURL) }

// terminal is the form of a terminal StatusCallback that names a recording.
func (r announced) terminal() string {
	values := url.Values{
		"CallSid":              {r.callSID},
		"EventType":            {"terminal"},
		"Status":               {"completed"},
		"Direction":            {"outbound-api"},
		"From":                 {"09876543210"},
		"To":                   {"09123456789"},
		"DateUpdated":          {time.Now().Format("2006-01-02 15:04:05")},
		"ConversationDuration": {"41"},
	}
	if r.sourceURL != "" {
		values.Set("RecordingUrl", r.sourceURL)
	}
	return values.Encode()
}

// announce sends the terminal events of the recordings and requires a 200 for each.
func (x *tenant) announce(t *testing.T, recs []announced) {
	t.Helper()
	for _, r := range recs {
		x.sendStatus(t, r.terminal())
	}
}

// sendStatus sends a StatusCallback and requires a 200.
func (x *tenant) sendStatus(t *testing.T, body string) {
	t.Helper()
	if code, err := x.post(t.Context(), x.statusURL(), x.secret, body); err != nil || code != 200 {
		t.Fatalf("%s: status %d, %v", body, code, err)
	}
}

// counts of the Tenant's rows: in the queue, uploaded, failed.
func (x *tenant) counts(ctx context.Context) (queued, uploaded, failed int, err error) {
	err = x.db.QueryRow(ctx, `SELECT (SELECT count(*) FROM recordings WHERE tenant = $1),
		(SELECT count(*) FROM recording_history WHERE tenant = $1 AND state = 'uploaded'),
		(SELECT count(*) FROM recording_history WHERE tenant = $1 AND state = 'failed')`, x.id()).Scan(&queued, &uploaded, &failed)
	return queued, uploaded, failed, err
}

// waitUploaded waits until exactly n of the Tenant's recordings are uploaded and none is left.
func (x *tenant) waitUploaded(t *testing.T, n int, within time.Duration) {
	t.Helper()
	what := fmt.Sprintf("%d recordings of %s are uploaded", n, x.id())
	eventually.Within(within).Reaches(t, what, func(ctx context.Context) (bool, string) {
		q, u, f, err := x.counts(ctx)
		return err == nil && q == 0 && u == n &&
			f == 0, fmt.Sprintf("%d queued, %d uploaded, %d failed, %v", q, u, f, err)
	})
}

// objects lists the keys in the Tenant's bucket, unfinished multipart uploads included as an error of the test.
func (x *tenant) objects(t *testing.T) []string {
	t.Helper()
	var keys []string
	for o := range x.s3.ListObjects(t.Context(), x.bucket, minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			t.Fatalf("list %s: %v", x.bucket, o.Err)
		}
		keys = append(keys, o.Key)
	}
	for u := range x.s3.ListIncompleteUploads(t.Context(), x.bucket, "", true) {
		t.Errorf("an upload of %s was left unfinished in the bucket (%v)", u.Key, u.Err)
	}
	return keys
}

// callRecordings of the Tenant's namespace.
func (x *tenant) callRecordings(ctx context.Context) ([]v1alpha1.CallRecording, error) {
	var list v1alpha1.CallRecordingList
	err := x.client.List(ctx, &list, client.InNamespace(x.ns))
	return list.Items, err
}
