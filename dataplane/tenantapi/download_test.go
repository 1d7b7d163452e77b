package tenantapi_test

import (
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/s3test"
)

// put makes an object, past every check.
func put(t *testing.T, s *s3test.Server, bucket, key, data string) {
	t.Helper()
	b, err := objectstore.New(objectstore.Config{
		Endpoint:        s.Endpoint,
		Region:          s.Region,
		Bucket:          bucket,
		AccessKeyID:     s.AccessKey,
		SecretAccessKey: s.SecretKey,
	},
		objectstore.NewTransport(objectstore.Policy{
			AllowHTTP:    true,
			AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		}, 2))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Put(t.Context(), objectstore.Object{
		Key:         key,
		Body:        strings.NewReader(data),
		Size:        int64(len(data)),
		ContentType: "audio/mpeg",
	}); err != nil {
		t.Fatal(err)
	}
}

type link struct {
	URL       string
	ExpiresAt time.Time
}

func TestDownload(t *testing.T) {
	rig := newRig(t)
	server := s3test.New(t)
	bucket := server.NewBucket(t)
	rig.storeAt(server, bucket)
	put(t, server, bucket, "acme/support/c1-01.mp3", "audio bytes")
	rig.insertRecording(t, acme, recordingID(1), "c1", "uploaded", bucket, "acme/support/c1-01.mp3", ago(time.Hour))
	for _, role := range []string{"admin", "agent"} {
		var got link
		rig.get(t, "/api/recordings/"+recordingID(1)+"/download", bearer(acme, role), &got)
		resp, err := http.Get(got.URL)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK || string(body) != "audio bytes" ||
			resp.Header.Get("Content-Disposition") != "attachment; filename=c1-01.mp3" {
			t.Errorf("%s: %d %q %v", role, resp.StatusCode, body, resp.Header)
		}
		if want := now.Add(5 * time.Minute); !got.ExpiresAt.Equal(want) ||
			!strings.Contains(got.URL, "X-Amz-Expires=300") {
			t.Errorf("%s: good until %s by %s, want %s", role, got.ExpiresAt, got.URL, want)
		}
	}
	if answer := rig.ask(
		"GET", "/api/recordings/"+recordingID(1)+"/download", bearer(acme, "viewer"), "",
	); answer.Status != 403 ||
		answer.Code() != "forbidden" {
		t.Errorf("a viewer: %d %s", answer.Status, answer.Body)
	}
}

func TestDownloadRefused(t *testing.T) {
	rig := newRig(t)
	server := s3test.New(t)
	bucket := server.NewBucket(t)
	rig.storeAt(server, bucket)
	for name, tc := range map[string]struct {
		state, bucket, key string
		status             int
		code, detail       string
	}{
		"pending":   {"pending", "", "", 409, "conflict", "not uploaded yet"},
		"uploading": {"uploading", "", "", 409, "conflict", "not uploaded yet"},
		"failed":    {"failed", "", "", 409, "conflict", "could not be uploaded"},
		"in another bucket": {
			"uploaded",
			"old-bucket",
			"acme/support/a.mp3",
			409,
			"conflict",
			`the bucket \"old-bucket\"`,
		},
		"another tenant's":       {"uploaded", bucket, "globex/sales/a.mp3", 500, "internal", "requestId"},
		"a tenant's that begins": {"uploaded", bucket, "acme/support-2/a.mp3", 500, "internal", "requestId"},
		"climbs out": {
			"uploaded",
			bucket,
			"acme/support/../../globex/sales/a.mp3",
			500,
			"internal",
			"requestId",
		},
		"the prefix itself": {"uploaded", bucket, "acme/support/", 500, "internal", "requestId"},
		"from the root":     {"uploaded", bucket, "/acme/support/a.mp3", 500, "internal", "requestId"},
	} {
		t.Run(name, func(t *testing.T) {
			rig.db.Exec(t, `DELETE FROM recordings; `)
			rig.db.Exec(t, `DELETE FROM recording_history`)
			rig.insertRecording(t, acme, recordingID(1), "c1", tc.state, tc.bucket, tc.key, ago(time.Hour))
			answer := rig.ask("GET", "/api/recordings/"+recordingID(1)+"/download", bearer(acme, "admin"), "")
			if answer.Status != tc.status || answer.Code() != tc.code ||
				!strings.Contains(string(answer.Body), tc.detail) ||
				strings.Contains(string(answer.Body), "X-Amz") {
				t.Errorf("%d %s", answer.Status, answer.Body)
			}
		})
	}
	rig.db.Exec(t, `DELETE FROM recordings; `)
	rig.db.Exec(t, `DELETE FROM recording_history`)
	rig.insertRecording(t, acme, recordingID(1), "c1", "uploaded", bucket, "acme/support/a.mp3", ago(time.Hour))
	if answer := rig.ask(
		"GET", "/api/recordings/"+recordingID(2)+"/download", bearer(acme, "admin"), "",
	); answer.Status != 404 ||
		answer.Code() != "not_found" {
		t.Errorf("one that is not there: %d %s", answer.Status, answer.Body)
	}
	noLinks := *rig.Tenant
	noLinks.Storage = &tenantconfig.Storage{Bucket: bucket, Endpoint: "http://s3.test", NoLinks: true}
	rig.Know(&noLinks, tenantNamed(globex))
	answer := rig.ask("GET", "/api/recordings/"+recordingID(1)+"/download", bearer(acme, "admin"), "")
	if answer.Status != 409 || !strings.Contains(string(answer.Body), "spec.recordings.publicEndpoint") {
		t.Errorf("plain http is not allowed: %d %s", answer.Status, answer.Body)
	}
	rig.Know(rig.Tenant) // without a store
	if answer := rig.ask(
		"GET", "/api/recordings/"+recordingID(1)+"/download", bearer(acme, "admin"), "",
	); answer.Status != 409 ||
		!strings.Contains(string(answer.Body), "ask the platform") {
		t.Errorf("without a store: %d %s", answer.Status, answer.Body)
	}
}

// TestNoLinkToAnother verifies that a link for one tenant's recording does not open another tenant's in the same
// bucket.
func TestNoLinkToAnother(t *testing.T) {
	rig := newRig(t)
	server := s3test.New(t)
	bucket := server.NewBucket(t)
	rig.storeAt(server, bucket)
	put(t, server, bucket, "acme/support/a.mp3", "acme's")
	put(t, server, bucket, "globex/sales/a.mp3", "globex's")
	rig.insertRecording(t, acme, recordingID(1), "c1", "uploaded", bucket, "acme/support/a.mp3", ago(time.Hour))
	var got link
	rig.get(t, "/api/recordings/"+recordingID(1)+"/download", bearer(acme, "agent"), &got)
	resp, err := http.Get(strings.Replace(got.URL, recording.KeyPrefix(acme), recording.KeyPrefix(globex), 1))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusForbidden ||
		strings.Contains(string(body), "globex's") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

// TestCapture verifies that a capture is listed with its source as a recording is, and downloaded in the same way.
func TestCapture(t *testing.T) {
	rig := newRig(t)
	server := s3test.New(t)
	bucket := server.NewBucket(t)
	rig.storeAt(server, bucket)
	put(t, server, bucket, "acme/support/c1-capture-s1.wav", "RIFF")
	for n, state := range []string{"uploaded", "recording", "failed"} {
		rig.db.Exec(
			t,
			`INSERT INTO captures (tenant, id, session, call_sid, pod, state, bucket, object_key, size, error_code,
				created_at, finished_at) VALUES
			($1, $2, gen_random_uuid(), 'c1', 'pod', $3, $4, 'acme/support/c1-capture-s1.wav', 4,
				CASE WHEN $3 = 'failed' THEN 'PodLost' ELSE '' END, $5,
				CASE WHEN $3 <> 'recording' THEN now() END)`,
			acme, recordingID(n), state, bucket, ago(time.Duration(n)*time.Hour),
		)
	}
	rig.insertRecording(t, acme, recordingID(7), "c1", "uploaded", bucket, "acme/support/a.mp3", ago(9*time.Hour))
	var got items
	rig.get(t, "/api/recordings?callSid=c1", bearer(acme, "viewer"), &got)
	for field, want := range map[string][]string{
		"source": {"capture", "capture", "capture", "exotel"},
		"state":  {"uploaded", "uploading", "failed", "uploaded"},
		"id":     {recordingID(0), recordingID(1), recordingID(2), recordingID(7)},
	} {
		if diff := cmp.Diff(want, got.all(field)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", field, diff)
		}
	}
	var l link
	rig.get(t, "/api/recordings/"+recordingID(0)+"/download", bearer(acme, "agent"), &l)
	resp, err := http.Get(l.URL)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK || string(body) != "RIFF" {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
	for n, detail := range map[int]string{1: "not uploaded yet", 2: "could not be uploaded"} {
		if answer := rig.ask(
			"GET", "/api/recordings/"+recordingID(n)+"/download", bearer(acme, "admin"), "",
		); answer.Status != 409 ||
			!strings.Contains(string(answer.Body), detail) {
			t.Errorf("%d: %d %s", n, answer.Status, answer.Body)
		}
	}
	if answer := rig.ask("GET", "/api/recordings/"+recordingID(0), bearer(globex, "admin"), ""); answer.Status != 404 {
		t.Errorf("another tenant: %d %s", answer.Status, answer.Body)
	}
}
