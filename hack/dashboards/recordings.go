package main

import "github.com/grafana/grafana-foundation-sdk/go/units"

func recordings() board {
	uploads := variable{
		name:  "uploads",
		label: "Upload namespace",
		query: "label_values(caly_upload_active_transfers, namespace)",
	}
	return board{
		name:        "recordings",
		title:       "Caly / Recordings and upload Jobs",
		description: "From the queue to the verified object.",
		variables:   []variable{namespaces, uploads},
		rows: []row{
			waitingUploads(),
			endedUploads(),
			uploadDependencies(),
			uploadPods(),
		},
	}
}

// waitingUploads is the row of recordings that wait.
func waitingUploads() row {
	return row{
		"Queue",
		[]panel{
			stack("Waiting by code", units.Short, upload,
				"Recordings that wait for an upload pod, by the code of their last error. Without a code: not "+
					"tried yet. No line: none waits.",
				query{tenantSum("code", "tenant, code", "caly_tenant_recordings_waiting"), "{{code}}"}),
			graph(
				"Waiting by Tenant",
				units.Short,
				upload,
				"The ten Tenants with most recordings that wait. No line: none waits.",
				query{"topk(10, " + tenantSum("tenant", "tenant, code", "caly_tenant_recordings_waiting") + ")",
					"{{tenant}}"},
			),
			graph(
				"Oldest recording by Tenant", units.Seconds, upload,
				"Age of the oldest recording that is not uploaded, of the ten Tenants that wait longest. No line: "+
					"none waits.",
				query{
					"topk(10, " + age("min by (tenant)", "caly_tenant_recordings_oldest_timestamp_seconds") + ")",
					"{{tenant}}",
				},
			),
		},
	}
}

// endedUploads is the row of recordings whose upload ended.
func endedUploads() row {
	return row{
		"Outcome",
		[]panel{
			stack("Ended", units.OpsPerSecond, upload, "Recordings whose upload ended, by outcome and code.",
				query{rate("outcome, code", "caly_tenant_recordings_total"), "{{outcome}} {{code}}"}),
			graph(
				"Failed, waiting for a person", units.Short, "how-to/retry-a-failed-recording.md",
				"Recordings whose upload Caly gave up, by Tenant and code. Correct the cause, then retry "+
					"them. No line: none failed.",
				query{
					"topk(10, " + tenantSum(
						"tenant, code", "tenant, code", "caly_tenant_recordings_failed",
					) + ")",
					"{{tenant}}: {{code}}",
				},
			),
			graph("Time to the object", units.Seconds, upload, "From the end of a call to its verified object.",
				times("caly_tenant_recording_seconds")...),
		},
	}
}

// uploadDependencies is the row of what uploads depend on.
func uploadDependencies() row {
	return row{"Dependencies", []panel{
		graph("Circuit breakers opened", units.Short, upload,
			"Times in 15 minutes that Caly stopped calls to a dependency that fails. `exotel` or `s3`.",
			query{"max by (dependency) (increase(" + of("caly_circuit_breaker_opened_total") + "[15m]))",
				"{{dependency}}"}),
		graph("Calls that needed retries", units.Short, upload,
			"Calls in 15 minutes that needed more than one try. `failure`: no try succeeded.",
			query{"max by (dependency, result) (increase(" + of("caly_retried_calls_total") + "[15m]))",
				"{{dependency}} {{result}}"}),
		stack("Web identity", units.OpsPerSecond, "how-to/use-web-identity-in-place-of-access-keys.md",
			"Exchanges of tokens for temporary credentials. `denied` needs a person: the Tenant's "+
				"condition CredentialsValid says what.",
			query{rate("result", "caly_web_identity_exchanges_total"), "{{result}}"}),
	}}
}

// uploadPods is the row of the upload pods themselves.
func uploadPods() row {
	const transfers = `namespace="$uploads"`
	return row{"Upload pods, as far as they live long enough to be scraped", []panel{
		graph("Transfers in progress", units.Short, upload,
			"Uploads that the upload pods do now. Pods that end before a scrape are not counted.",
			query{"sum(caly_upload_active_transfers{" + transfers + "})", "transfers"}),
		graph("Bytes uploaded", units.BytesPerSecondSI, upload,
			"Bytes that upload pods have uploaded and verified, a second.",
			query{"sum(rate(caly_upload_bytes_total{" + transfers + "}[$__rate_interval]))", "bytes"}),
		stack("Transfers by result", units.OpsPerSecond, upload,
			"Transfers that ended, by `Uploaded` or the code of the fault.",
			query{"sum by (result) (rate(caly_upload_transfers_total{" + transfers + "}[$__rate_interval]))",
				"{{result}}"}),
	}}
}
