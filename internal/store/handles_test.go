package store_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// Methods by the handles that have them. A call of a method that a handle does not have is a compile error.
var (
	ofEveryHandle = []string{"Close", "Ping", "ReadOnlyAnswers", "Stat", "Writable"}

	ofOperatorAndDataplane = []string{
		"AddProcessRetries",
		"CloseStream",
		"CloseStreams",
		"Ingest",
		"IngestBatch",
		"Invite",
		"ListRecordings",
		"ListUsers",
		"RecordingByID",
		"RetryTotals",
		"RevokeUser",
		"SetUserDisabled",
		"StreamByID",
		"StreamSessions",
	}

	ofOperator = []string{
		"Activities",
		"AddBackfill",
		"AdoptTenant",
		"BackfillTotals",
		"Backlogs",
		"CallFacts",
		"CheckRole",
		"ClaimNames",
		"ClaimTenant",
		"CountEndings",
		"CreateUser",
		"DeleteTenant",
		"DropUploadRole",
		"EndAccess",
		"EndingTotals",
		"Enqueue",
		"EnsureHistoryPartitions",
		"EnsureUploadRole",
		"Event",
		"Events",
		"HasLiveCaptures",
		"HasUploads",
		"Health",
		"HeldNames",
		"KnownCalls",
		"KnowsTenant",
		"LimitUploadRole",
		"LiveStreams",
		"MarkViewed",
		"NameHolders",
		"NameSeries",
		"NamesSeeded",
		"OwnedTenants",
		"PartialEvents",
		"ReapLeases",
		"Recordings",
		"RedactURLs",
		"ReleaseNames",
		"RepairRoles",
		"ReplaceTenant",
		"Replay",
		"RequireLabels",
		"Retry",
		"Revoke",
		"SeedNames",
		"ShareAccount",
		"Suspects",
		"SuspendTenant",
		"SweepAccounts",
		"SweepCaptures",
		"SweepHits",
		"SweepMail",
		"SweepRevocations",
		"SweepStreams",
		"TakeLeases",
		"TenantCounts",
		"TenantOfStream",
		"TenantsWithNames",
		"Unviewed",
		"UploadDSN",
		"UploadStates",
		"UserByEmail",
	}

	ofDataplane = []string{
		"AddCleanups",
		"AdmitStream",
		"BeginCapture",
		"CallBySID",
		"Calls",
		"ChangePassword",
		"ClaimCaptures",
		"ClaimMail",
		"CleanupTotals",
		"Credentials",
		"CredentialsByID",
		"EndSession",
		"EndSessions",
		"EndStreams",
		"FinishCapture",
		"FinishMail",
		"HeartbeatCaptures",
		"HeartbeatStreams",
		"ListAudit",
		"ListSessions",
		"OpenCapture",
		"PendingMail",
		"PodStreams",
		"ReapStreams",
		"RefuseCapture",
		"Register",
		"ReleaseCaptures",
		"RequestReset",
		"Resend",
		"ResetPassword",
		"ResetTokenOwner",
		"RetryMail",
		"ReturnHit",
		"RevocationsSince",
		"RotateSession",
		"SendMail",
		"SetCaptureUpload",
		"SetUserRole",
		"StartSession",
		"StreamsToClose",
		"TakeHits",
		"Usage",
		"UserByID",
		"VerifyEmail",
		"WriteAudit",
	}

	ofUpload = []string{
		"AddRetries",
		"Claim",
		"Complete",
		"Fail",
		"Heartbeat",
		"MarkUploadStarted",
		"Release",
		"RetryLater",
	}
)

// TestHandles checks which calls the handle of each role allows.
func TestHandles(t *testing.T) {
	pgtest.SameOnEachServer(t)
	tests := map[string]struct {
		handle reflect.Type
		want   []string
	}{
		"operator": {
			handle: reflect.TypeFor[*store.Operator](),
			want:   slices.Concat(ofEveryHandle, ofOperatorAndDataplane, ofOperator),
		},
		"data plane": {
			handle: reflect.TypeFor[*store.Dataplane](),
			want:   slices.Concat(ofEveryHandle, ofOperatorAndDataplane, ofDataplane),
		},
		"upload pod": {
			handle: reflect.TypeFor[*store.Upload](),
			want:   slices.Concat(ofEveryHandle, ofUpload),
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var got []string
			for i := range tc.handle.NumMethod() {
				got = append(got, tc.handle.Method(i).Name)
			}
			slices.Sort(tc.want)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("methods (-want +got):\n%s", diff)
			}
		})
	}
}
