// What the words of the proxy mean, and what is to be done about them.

/** The qualities of contexts, the best first. */
export const QUALITIES = ["valid", "missing", "invalid", "stale", "foreign", "mixed"];

export const QUALITY = {
  valid: {
    means: "The message carried a valid W3C traceparent, and keeps it.",
    remedy: ["Nothing."],
  },
  missing: {
    means: "The message came without any trace context: its sender is not traced, or its tracing does not reach Celery.",
    acts: {
      key: "policy.on_missing",
      add: "tracehop adds one, so that queue, worker and all that follows are in one trace.",
      pass: "policy.on_missing is “pass”: the message goes on without one, and the worker starts a trace of its own.",
    },
    remedy: [
      "To see which request caused the task, instrument the sender. A Python web app: start it with opentelemetry-instrument and install opentelemetry-instrumentation-celery beside the instrumentation of its framework.",
      "A cron script, a beat, or a sender in another language: put a traceparent into the headers of the message.",
      "A sender that is a worker: it sends subtasks or chains and is not instrumented. tracehop knows the task they come from, so nothing is lost.",
    ],
  },
  invalid: {
    means: "There is a traceparent, but nobody can read it: a worker would start a trace of its own.",
    acts: {
      key: "policy.on_invalid",
      replace: "tracehop replaces it with a valid one. The link to the request that caused the task is lost until the sender is mended.",
      pass: "policy.on_invalid is “pass”: the message goes on as it is.",
    },
    remedy: [],
  },
  stale: {
    means: "It carried the context of another message: a worker that does not trace copied the headers into a retry, or an app copied them into another task.",
    acts: {
      key: "policy.mode",
      inject: "tracehop renews it, so that each message is the child of the one before.",
      observe: "tracehop only observes: the message stays where the one before is in the trace.",
    },
    remedy: [
      "Nothing has to be done. To see the runs themselves as spans of the worker, install opentelemetry-instrumentation-celery in the worker, or let tracehop make them with spans.process = true.",
    ],
  },
  foreign: {
    means: "There is another vendor's context (Sentry's, Datadog's, B3, Jaeger's, Elastic's or X-Ray's) and no traceparent.",
    acts: {
      key: "policy.mode",
      inject: "tracehop translates it where [translate] allows that, and leaves theirs beside it.",
      observe: "tracehop only observes: the message goes on with theirs alone.",
    },
    remedy: [
      "To have both at the source, let that SDK write W3C too. Datadog: DD_TRACE_PROPAGATION_STYLE=datadog,tracecontext. OpenTelemetry with B3 or Jaeger: OTEL_PROPAGATORS=tracecontext,baggage,b3.",
      "Sentry: have its OpenTelemetry integration propagate, or leave it as it is: the translated trace id is Sentry's own.",
    ],
  },
  mixed: {
    means: "There are several contexts, and they name different traces: two tracing libraries are at work in the sender, and neither knows of the other.",
    acts: {
      key: "policy.mode",
      inject: "The traceparent counts; the others stay as they are.",
      observe: "The traceparent counts; the others stay as they are.",
    },
    remedy: [
      "Let one library own the propagation: switch off the Celery integration of the other one, or have it take the trace from OpenTelemetry.",
    ],
  },
};

/** Why a traceparent is invalid: what that means, and how the sender is mended. */
export const INVALID = {
  not_a_string: [
    "The header is not text: a number, a list, bytes.",
    "Write it as a plain string, not as what a carrier or an encoder made of it.",
  ],
  wrong_length: [
    "It does not have 55 characters: it was cut off, padded, or has blanks around it.",
    "Write 00-<32 hex digits>-<16 hex digits>-<2 hex digits>. Fill a 64 bit trace id with zeros on its left, and look for a column or header that cuts values off.",
  ],
  wrong_shape: [
    "Its dashes or hex digits are not where they should be.",
    "Write 00-<32 hex digits>-<16 hex digits>-<2 hex digits>, without quotes, braces or the dashes of a UUID.",
  ],
  upper_case: [
    "Its hex digits are upper case; W3C allows lower case alone.",
    "Format ids in lower case: %032x, or .lower().",
  ],
  version_ff: [
    "Its version is ff, which is forbidden.",
    "Write version 00. A library that writes ff is most likely broken.",
  ],
  zero_trace_id: [
    "Its trace id is all zeros: what a tracer writes that has not been started, or has no span.",
    "Start the tracer before the first message is sent, in each process after it forks; or inject no context where there is no span.",
  ],
  zero_parent_id: [
    "Its parent id is all zeros: there was a trace id and no span.",
    "Send from within a span; a trace id alone is no context.",
  ],
  name_not_lower_case: [
    "The header is called Traceparent, or the like; workers read traceparent alone.",
    "Write the header's name in lower case: Celery's headers are no HTTP headers, and keep the case they are given.",
  ],
};

/** What became of whole workflows and of tasks. */
export const STATES = {
  waiting: "sent, and not delivered yet",
  running: "delivered, and not ended yet",
  succeeded: "the worker told of success",
  failed: "the last attempt failed",
  retried: "this attempt ended with another one",
  rejected: "the worker threw it away",
  revoked: "it was revoked",
  refused: "the broker did not take it",
  unknown: "the worker has not told how it ended",
};

export const ORIGINS = {
  carried: "it was in the message",
  translated: "it was in the message, in another vendor's spelling",
  inherited: "from a task that was seen before",
  derived: "from the ids in the message",
  fresh: "there was nothing to go by",
};

export const EVIDENCE = {
  result: "the worker's result",
  event: "the worker's event",
  publication: "the sending of the next attempt",
  acknowledgement: "the acknowledgement",
};

/** Why connections fail, with a remedy. */
export const FAILURES = {
  unreachable: "no address of the upstream took a connection: is the broker up, and the upstream right?",
  broker_lost: "the broker ended a connection that was in use: see its log",
  connections_max: "there were too many at a time: raise limits.connections_max, or see who does not close theirs",
  peer_silent: "a peer's machine answered nothing for limits.peer_silent_max: it stopped, or the network dropped the connection",
  half_closed: "one peer ended its half and the other stayed silent for limits.half_closed_max",
  no_descriptors: "the process may open no more files: raise its limit (ulimit -n, LimitNOFILE)",
  accept: "the system could not hand over a new connection: see the log",
  panic: "a fault of tracehop's own: please report it with the log",
  tls_client: "no TLS with the app: does it trust the certificate of the route, and show one that tls_client_ca has signed?",
  tls_broker: "no TLS with the broker: see upstream_ca, upstream_server_name and upstream_certificate of the route; the log says why",
  tls_unexpected: "the app speaks TLS and the route does not: give it tls_certificate and tls_key, or let the app's URL do without TLS",
  not_redirected: "an app connected to a transparent route itself: have the firewall redirect it, or give the route an upstream",
  redirect_loop: "the firewall redirects tracehop's own connections: exempt the user that it runs as",
};

export const DROPS = {
  queue_full: "came faster than they could be exported: raise telemetry.queue_max, or sample",
  failed: "the collector refused them or could not be reached",
  rejected: "the collector took the rest of the batch: the log has its words",
  timeout: "the collector did not answer within telemetry.export_timeout",
  shutdown: "left behind when the proxy was stopped",
};

const UNREADABLE = [
  "The bytes did not follow the protocol as tracehop knows it.",
  "If it is a Celery app that connects, please report the reason with the versions of client and broker.",
];
const SELDOM = [
  "The client used its connection in a way that replies could not be told apart any more.",
  "No Celery app does so. Give this client a way past tracehop, or leave it: it works.",
];

/** Why connections are not read: what that means, and what to do. */
export function blind(reason) {
  return BLIND[reason] ?? UNREADABLE;
}

const BLIND = {
  unknown_protocol: [
    "The first bytes were of no protocol that tracehop reads: a port scan, a probe, or the wrong port.",
    "See which address it is in the log. Probes belong to /readyz on this port.",
  ],
  version_refused: ["Client and broker do not agree on the protocol's version.", "See which version the client asks for."],
  amqp_version: ["The client speaks another version of the protocol.", "Celery speaks 0-9-1; another application may go past tracehop."],
  too_many_pending: ["More requests waited for a reply than limits.pending_max.", "Raise it if that client is one of Celery's."],
  over_total_hold_limit: [
    "All connections together kept limits.hold_total_bytes_max of what waits for an answer.",
    "See which client asks so much without an answer. Raise the limit if it is one of Celery's.",
  ],
  panic: ["A fault of tracehop's own while it read a connection; its traffic went on.", "Please report it with the log."],
  client_reply_in_transaction: SELDOM,
  hello_in_transaction: SELDOM,
  subscribe_in_transaction: SELDOM,
  unheard_switch: SELDOM,
};

/** Why messages pass unread: what that means, and what to do. */
export function leftAlone(reason) {
  return LEFT_ALONE[reason] ?? ["It could not be read as a task.", "It passed as it was; see the log for whose it is."];
}

const LEFT_ALONE = {
  over_hold_limit: [
    "The message is larger than limits.hold_bytes_max, and passed unedited.",
    "Raise the limit if tasks are so large; better, send a reference instead of the data.",
  ],
  over_total_hold_limit: [
    "All connections together held back limits.hold_total_bytes_max.",
    "Raise it, or see whether the broker has become slow to take what is sent.",
  ],
  over_frame_max: [
    "With a context its headers would not fit into the frame that client and broker agreed on.",
    "Raise frame_max of the broker, or see why its headers are so large.",
  ],
  bad_headers: [
    "Its headers are no object, or name a task without an id.",
    "No worker can read it; see who sends it.",
  ],
  unknown_compression: [
    "The body of a protocol 1 task is compressed, and not by zlib.",
    "Use task_protocol 2, whose headers are never compressed, or zlib.",
  ],
  unknown_content_type: [
    "The body of a protocol 1 task was written by a serializer that is not Celery's.",
    "Use task_protocol 2, whose headers can always be read.",
  ],
  unreadable_body: [
    "The body of a protocol 1 task is not what its content type says.",
    "See who sends it. If a worker runs it, report it.",
  ],
  unreadable_envelope: [
    "It begins like an envelope of kombu's, and is no JSON to its end.",
    "No worker can read it; see who sends it.",
  ],
  unread_command: [
    "A message passed in a command that Celery does not use for tasks: a script, a sorted set, a stream.",
    "If that is a transport for Celery, its tasks are not traced.",
  ],
};
