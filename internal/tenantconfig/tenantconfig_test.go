package tenantconfig

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/secret"
)

func sample() Tenant {
	return Tenant{
		Version:            Version,
		ID:                 "acme/support",
		UID:                "u",
		TimeZone:           "Asia/Kolkata",
		AllowedSourceHosts: []string{"a.example"},
		Freshness:          DefaultFreshness,
		Webhooks: &Webhooks{Signature: &Signature{
			Scheme:  "HMACSHA1",
			Secrets: []secret.Sensitive{"sixteen bytes or more"},
		}},
	}
}

func sampleUpload() Upload {
	return Upload{
		Version:     Version,
		ID:          "acme/support",
		DatabaseURL: "postgres://x",
		Storage:     Storage{Bucket: "b", Endpoint: "https://s3.example", SecretAccessKey: "topsecret"},
		KeyTemplate: "{{.CallSID}}-{{.RecordingID}}",
	}
}

func TestRoundTrip(t *testing.T) {
	data, err := EncodeTenant(sample())
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeTenant(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample(), *got); diff != "" {
		t.Errorf("tenant (-want +got):\n%s", diff)
	}
	data, err = EncodeUpload(sampleUpload())
	if err != nil {
		t.Fatal(err)
	}
	up, err := DecodeUpload(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sampleUpload(), *up); diff != "" {
		t.Errorf("upload (-want +got):\n%s", diff)
	}
}

func TestDecodeRefuses(t *testing.T) {
	change := func(f func(*Tenant)) []byte {
		tenant := sample()
		f(&tenant)
		data, _ := json.Marshal(tenant)
		return data
	}
	for name, tc := range map[string]struct {
		data []byte
		want string
	}{
		"cut":           {[]byte(`{"webhooks":{"signature":{"secrets":["topsecret`), "not the JSON"},
		"not encoded":   {[]byte(`{"webhooks":{"signature":{"secrets":["topsecret!"]}}}`), "not the JSON"},
		"version":       {change(func(t *Tenant) { t.Version = 9 }), "version 9"},
		"id":            {change(func(t *Tenant) { t.ID = "acme" }), "namespace/name"},
		"id with more":  {change(func(t *Tenant) { t.ID = "a/b/c" }), "namespace/name"},
		"much too long": {[]byte(strings.Repeat(" ", maxEncoded+1)), "may have"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := DecodeTenant(tc.data)
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "topsecret") {
				t.Errorf("got %v, want it to say %q and no secret", err, tc.want)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	for _, t := range []Tenant{sample(), full(), withAccounts(), capturing()} {
		good, _ := EncodeTenant(t)
		f.Add(good)
	}
	up, _ := EncodeUpload(sampleUpload())
	f.Add(up)
	f.Fuzz(func(t *testing.T, data []byte) {
		if tenant, err := DecodeTenant(data); err == nil {
			// What got through is whole: it is written, and read again, as it is.
			again, err := EncodeTenant(*tenant)
			if err != nil {
				t.Fatal(err)
			}
			c2, err := DecodeTenant(again)
			if err != nil || tenant.Version != Version || !strings.Contains(tenant.ID, "/") ||
				(tenant.Webhooks != nil && !tenant.Webhooks.Configured()) ||
				tenant.Auth.Check() != nil ||
				(tenant.Storage != nil && tenant.Auth == nil && (tenant.Audio == nil || tenant.Audio.Capture == nil)) {
				t.Fatalf("%+v got through: %v", tenant, err)
			}
			if diff := cmp.Diff(tenant, c2, ranges, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("-first +second:\n%s", diff)
			}
		}
		if upload, err := DecodeUpload(data); err == nil && recording.ParseKeyTemplate(upload.KeyTemplate) != nil {
			t.Fatalf("template %q got through", upload.KeyTemplate)
		}
	})
}

func TestSensitiveIsNeverPrinted(t *testing.T) {
	upload := sampleUpload()
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "secret", upload.SecretAccessKey)
	printed := b.String() + fmt.Sprintf("%v %+v %s %#v", upload, upload, upload.SecretAccessKey, upload.SecretAccessKey)
	if strings.Contains(printed, "topsecret") {
		t.Errorf("printed: %s", printed)
	}
}

func TestSecretName(t *testing.T) {
	if SecretName("t", "a-b/c") == SecretName("t", "a/b-c") {
		t.Error("two tenants share a Secret's name")
	}
}
