package upload

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/s3test"
)

// TestChecksums uploads with each checksum that a check of the bucket may find: short and long recordings, with a
// length and without. No MD5 is computed where the store verifies the SHA-256. The objects say what they are.
func TestChecksums(t *testing.T) {
	noLeak(t)
	rig := newRig(t)
	part := int64(objectstore.PartSize)
	for _, c := range []objectstore.Checksum{
		objectstore.ChecksumSHA256, objectstore.ChecksumMD5, objectstore.ChecksumETag, objectstore.ChecksumNone, "",
	} {
		t.Run("checksum "+string(c), func(t *testing.T) {
			rig := *rig
			rig.t = t
			rig.cfg.Checksum = c
			ids := map[string]string{}
			paths := map[string]string{}
			sizes := map[string]int64{
				"short":        200_000,
				"long":         part + 1,
				"shortchunked": 100_001,
				"longchunked":  2*part + 17,
			}
			for name, size := range sizes {
				sid := string(c) + name
				ids[name], paths[name] = rig.queue(sid, size)
				rig.exotel.Set(paths[name], exotelsim.Quirks{NoLength: strings.HasSuffix(name, "chunked")})
			}
			if err := rig.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			for name, size := range sizes {
				rig.wantUploaded(ids[name], paths[name], size)
				rig.wantMeta(ids[name], string(c)+name, size)
			}
			rig.wantNoLeftovers()
		})
	}
	if n := rig.db.Number(
		t, `SELECT count(*) FROM recording_history WHERE md5 <> '' AND call_sid LIKE 'SHA256%'`,
	); n != 0 {
		t.Errorf("the MD5 of %d recordings was computed although the store verified their SHA-256", n)
	}
}

// wantMeta checks what an object says of itself.
func (r *rig) wantMeta(id, sid string, size int64) {
	r.t.Helper()
	rec := r.recording(id)
	objectInfo, err := r.s3.Core.StatObject(r.t.Context(), rec.Bucket, rec.Key, minio.StatObjectOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	want := map[string]string{"Tenant": tenant, "Call-Sid": sid, "Recording-Id": id}
	if size <= objectstore.PartSize {
		want["Sha256"] = rec.SHA256
		frames := size / 417 // as exotelsim.Audio makes them
		want["Duration"] = strconv.FormatFloat(float64(frames*1152)/44100, 'f', 1, 64)
	} else {
		want["Duration"] = ""
	}
	for name, value := range want {
		if objectInfo.UserMetadata[name] != value {
			r.t.Errorf("metadata %s is %q, want %q", name, objectInfo.UserMetadata[name], value)
		}
	}
	if objectInfo.UserMetadata["Queued-At"] == "" {
		r.t.Error("metadata does not say when the recording was queued")
	}
}

// TestStrictStores uploads to stores that require something of each upload. Without the option, which is what was sent
// before, the recording waits with the reason.
func TestStrictStores(t *testing.T) {
	tests := map[string]struct {
		rules    s3test.Rules
		options  objectstore.Options
		wantCode string // without the options
		exit     int
	}{
		"Object Lock": {s3test.Rules{Lock: true}, objectstore.Options{Checksum: objectstore.ChecksumSHA256},
			"StorageObjectLocked",
			exitTransient},
		"Object Lock, MD5 only": {s3test.Rules{Lock: true, NoSHA256: true},
			objectstore.Options{Checksum: objectstore.ChecksumMD5},
			"StorageObjectLocked", exitTransient},
		"SSE-KMS by policy": {s3test.Rules{Encryption: "aws:kms", KMSKey: "k", OpaqueETags: true},
			objectstore.Options{
				Encryption: objectstore.EncryptionKMS,
				KMSKeyID:   "k",
			}, "StorageAccessDenied", ExitConfig},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			noLeak(t)
			rig := newRig(t)
			strict := s3test.NewStrict(t, tc.rules, nil)
			rig.cfg.Storage = tenantconfig.Storage{
				Endpoint:        strict.URL,
				Bucket:          strict.Bucket,
				Region:          "us-east-1",
				AccessKeyID:     secret.Sensitive(strict.AccessKey),
				SecretAccessKey: secret.Sensitive(strict.SecretKey),
			}
			short, path := rig.queue("short", 100_000)
			long, _ := rig.queue("long", objectstore.PartSize+1)
			if err := rig.run(t.Context()); ExitCode(err) != tc.exit {
				t.Errorf("without the options: %v, want exit code %d", err, tc.exit)
			}
			if rec := rig.recording(short); rec.State != store.StatePending || rec.LastErrorCode != tc.wantCode ||
				rec.Attempts != 0 {
				t.Errorf("without the options: %s %s after %d attempts, want %s", rec.State, rec.LastErrorCode,
					rec.Attempts, tc.wantCode)
			}
			rig.cfg.Options = tc.options
			rig.makeDue()
			if err := rig.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, id := range []string{short, long} {
				rec := rig.recording(id)
				strictObject, ok := strict.Object(rec.Key)
				sum := sha256.Sum256(strictObject.Data)
				if rec.State != store.StateUploaded || !ok || hex.EncodeToString(sum[:]) != rec.SHA256 {
					t.Errorf(
						"%s: %s %s, and the store has %d bytes", path, rec.State, rec.LastError, len(strictObject.Data),
					)
				}
			}
		})
	}
}

// TestStorageCodes turns what stores refuse into faults.
func TestStorageCodes(t *testing.T) {
	strict := s3test.NewStrict(t, s3test.Rules{Region: "eu-west-1"}, nil)
	b, err := objectstore.New(objectstore.Config{
		Endpoint:        strict.URL,
		Region:          "us-east-1",
		Bucket:          strict.Bucket,
		AccessKeyID:     strict.AccessKey,
		SecretAccessKey: strict.SecretKey,
	}, objectstore.NewTransport(objectstore.Policy{
		AllowHTTP:    true,
		AllowedCIDRs: loopback,
	}, 1))
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Stat(t.Context(), "k")
	fault := storageFault(err)
	if fault.code != "StorageRegionMismatch" || fault.kind != misconfigured ||
		!strings.Contains(fault.text, "eu-west-1") ||
		!strings.Contains(fault.text, "spec.recordings.region") {
		t.Errorf("%s, kind %d: %s", fault.code, fault.kind, fault.text)
	}
	if fault := storageFault(errors.New("a moment")); fault.code != reason.StorageUnavailable || fault.kind != later {
		t.Errorf("%s, kind %d", fault.code, fault.kind)
	}
}
