package tenantapi_test

import (
	"strings"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/s3test"
)

// TestDownloadTemporary bounds links by the lifetime of temporary credentials.
func TestDownloadTemporary(t *testing.T) {
	rig := newRig(t)
	server := s3test.New(t)
	bucket := server.NewBucket(t)
	rig.storeAt(server, bucket)
	rig.insertRecording(t, acme, recordingID(1), "c1", "uploaded", bucket, "acme/support/c1-01.mp3", ago(time.Hour))
	for name, tc := range map[string]struct {
		left time.Duration // of the credentials
		want time.Duration // of the link; 0: there is none
		url  string
	}{
		"longer than a link":  {time.Hour, 5 * time.Minute, "X-Amz-Expires=300"},
		"shorter than a link": {time.Minute + 700*time.Millisecond, time.Minute, "X-Amz-Expires=60"},
		"about to expire":     {5 * time.Second, 0, ""},
		"expired":             {-time.Hour, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tenant := *rig.Tenant
			storage := tenantconfig.Storage{
				Bucket:          bucket,
				Endpoint:        server.Endpoint,
				Region:          server.Region,
				AccessKeyID:     "a",
				SecretAccessKey: "s",
				SessionToken:    "t",
				Temporary:       &tenantconfig.Temporary{Identity: "i", Expires: now.Add(tc.left)},
			}
			tenant.Storage = &storage
			rig.Know(&tenant)
			if tc.want == 0 {
				answer := rig.ask("GET", "/api/recordings/"+recordingID(1)+"/download", bearer(acme, "admin"), "")
				if answer.Status != 503 || answer.Code() != "unavailable" ||
					strings.Contains(string(answer.Body), "X-Amz") {
					t.Errorf("%d %s", answer.Status, answer.Body)
				}
				return
			}
			var got link
			rig.get(t, "/api/recordings/"+recordingID(1)+"/download", bearer(acme, "admin"), &got)
			if want := now.Add(tc.want); !got.ExpiresAt.Equal(want) || !strings.Contains(got.URL, tc.url) ||
				!strings.Contains(got.URL, "X-Amz-Security-Token=t") {
				t.Errorf("valid until %s by %s, want %s", got.ExpiresAt, got.URL, want)
			}
		})
	}
}
