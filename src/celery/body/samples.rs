//! The body of one protocol-1 task, as Celery 5.7 builds it and kombu serializes it.

/// `json`.
pub(super) const JSON: &[u8] = b"\
    {\"task\": \"tasks.add\", \"id\": \"50fbde83-f755-40e9-a1de-76192c8eca74\", \"args\": [2, \
    3], \"kwargs\": {\"who\": \"w\\u00fc\"}, \
    \"group\": \"0e0f1e6a-1111-4222-8333-444455556666\", \"group_index\": null, \
    \"retries\": 1, \"eta\": \"2026-11-22T08:53:23.736583+00:00\", \"expires\": null, \
    \"utc\": true, \"callbacks\": null, \"errbacks\": null, \"timelimit\": [null, null], \
    \"taskset\": \"0e0f1e6a-1111-4222-8333-444455556666\", \"chord\": null}";

/// `yaml`.
pub(super) const YAML: &[u8] = b"\
    args:\n\
    - 2\n\
    - 3\n\
    callbacks: null\n\
    chord: null\n\
    errbacks: null\n\
    eta: '2026-11-22T08:53:23.736583+00:00'\n\
    expires: null\n\
    group: 0e0f1e6a-1111-4222-8333-444455556666\n\
    group_index: null\n\
    id: 50fbde83-f755-40e9-a1de-76192c8eca74\n\
    kwargs:\n\
    \x20 who: \"w\\xFC\"\n\
    retries: 1\n\
    task: tasks.add\n\
    taskset: 0e0f1e6a-1111-4222-8333-444455556666\n\
    timelimit:\n\
    - null\n\
    - null\n\
    utc: true\n";

/// `yaml` by PyYAML before 5.1, which put small collections on one line.
pub(super) const YAML_FLOW: &[u8] = b"\
    args: [2, 3]\n\
    callbacks: null\n\
    chord: null\n\
    errbacks: null\n\
    eta: '2026-11-22T08:53:23.736583+00:00'\n\
    expires: null\n\
    group: 0e0f1e6a-1111-4222-8333-444455556666\n\
    group_index: null\n\
    id: 50fbde83-f755-40e9-a1de-76192c8eca74\n\
    kwargs: {who: \"w\\xFC\"}\n\
    retries: 1\n\
    task: tasks.add\n\
    taskset: 0e0f1e6a-1111-4222-8333-444455556666\n\
    timelimit: [null, null]\n\
    utc: true\n";

/// `msgpack`.
pub(super) const MSGPACK: &[u8] = b"\
    \x8f\xa4task\xa9tasks.add\xa2id\xd9$50fbde83-f755-40e9-a1de-76192c8eca74\xa4args\x92\x02\
    \x03\xa6kwargs\x81\xa3who\xa3w\xc3\xbc\xa5group\xd9$0e0f1e6a-1111-4222-8333-444455556666\
    \xabgroup_index\xc0\xa7retries\x01\xa3eta\xd9 2026-11-22T08:53:23.736583+00:00\xa7expire\
    s\xc0\xa3utc\xc3\xa9callbacks\xc0\xa8errbacks\xc0\xa9timelimit\x92\xc0\xc0\xa7taskset\
    \xd9$0e0f1e6a-1111-4222-8333-444455556666\xa5chord\xc0";

/// `pickle`, protocol 0.
pub(super) const PICKLE_0: &[u8] = b"\
    (dp0\nVtask\np1\nVtasks.add\np2\nsVid\np3\nV50fbde83-f755-40e9-a1de-76192c8eca74\np4\nsV\
    args\np5\n(I2\nI3\ntp6\nsVkwargs\np7\n(dp8\nVwho\np9\nVw\xfc\np10\nssVgroup\np11\nV0e0f1\
    e6a-1111-4222-8333-444455556666\np12\nsVgroup_index\np13\nNsVretries\np14\nI1\nsVeta\np1\
    5\nV2026-11-22T08:53:23.736583+00:00\np16\nsVexpires\np17\nNsVutc\np18\nI01\nsVcallbacks\
    \np19\nNsVerrbacks\np20\nNsVtimelimit\np21\n(NNtp22\nsVtaskset\np23\ng12\nsVchord\np24\n\
    Ns.";

/// `pickle`, protocol 2.
pub(super) const PICKLE_2: &[u8] = b"\
    \x80\x02}q\x00(X\x04\x00\x00\x00taskq\x01X\t\x00\x00\x00tasks.addq\x02X\x02\x00\x00\x00i\
    dq\x03X$\x00\x00\x0050fbde83-f755-40e9-a1de-76192c8eca74q\x04X\x04\x00\x00\x00argsq\x05K\
    \x02K\x03\x86q\x06X\x06\x00\x00\x00kwargsq\x07}q\x08X\x03\x00\x00\x00whoq\tX\x03\x00\x00\
    \x00w\xc3\xbcq\nsX\x05\x00\x00\x00groupq\x0bX$\x00\x00\x000e0f1e6a-1111-4222-8333-444455\
    556666q\x0cX\x0b\x00\x00\x00group_indexq\rNX\x07\x00\x00\x00retriesq\x0eK\x01X\x03\x00\
    \x00\x00etaq\x0fX \x00\x00\x002026-11-22T08:53:23.736583+00:00q\x10X\x07\x00\x00\x00expi\
    resq\x11NX\x03\x00\x00\x00utcq\x12\x88X\t\x00\x00\x00callbacksq\x13NX\x08\x00\x00\x00err\
    backsq\x14NX\t\x00\x00\x00timelimitq\x15NN\x86q\x16X\x07\x00\x00\x00tasksetq\x17h\x0cX\
    \x05\x00\x00\x00chordq\x18Nu.";

/// `pickle`, protocol 4, which is what kombu uses.
pub(super) const PICKLE_4: &[u8] = b"\
    \x80\x04\x95,\x01\x00\x00\x00\x00\x00\x00}\x94(\x8c\x04task\x94\x8c\ttasks.add\x94\x8c\
    \x02id\x94\x8c$50fbde83-f755-40e9-a1de-76192c8eca74\x94\x8c\x04args\x94K\x02K\x03\x86\
    \x94\x8c\x06kwargs\x94}\x94\x8c\x03who\x94\x8c\x03w\xc3\xbc\x94s\x8c\x05group\x94\x8c$0e\
    0f1e6a-1111-4222-8333-444455556666\x94\x8c\x0bgroup_index\x94N\x8c\x07retries\x94K\x01\
    \x8c\x03eta\x94\x8c 2026-11-22T08:53:23.736583+00:00\x94\x8c\x07expires\x94N\x8c\x03utc\
    \x94\x88\x8c\tcallbacks\x94N\x8c\x08errbacks\x94N\x8c\ttimelimit\x94NN\x86\x94\x8c\x07ta\
    skset\x94h\x0c\x8c\x05chord\x94Nu.";

/// `pickle` by Python 2, protocol 2: its text is bytes.
pub(super) const PICKLE_PYTHON_2: &[u8] = b"\
    \x80\x02}q\x01(U\x07retriesK\x01U\x04taskU\ttasks.addU\x05groupU$0e0f1e6a-1111-4222-8333\
    -444455556666U\x07tasksetU$0e0f1e6a-1111-4222-8333-444455556666U\x03utc\x88U\x04args]q\
    \x02(K\x02K\x03eU\x07expiresNU\x02idU$50fbde83-f755-40e9-a1de-76192c8eca74U\x05chordNU\t\
    timelimit]q\x03(NNeU\x08errbacksNU\tcallbacksNU\x06kwargs}q\x04X\x03\x00\x00\x00whoX\x03\
    \x00\x00\x00w\xc3\xbcsU\x03etaU 2026-11-22T08:53:23.736583+00:00U\x0bgroup_indexNu.";

/// `pickle`, protocol 4, with objects of many classes among the arguments.
pub(super) const PICKLE_OBJECTS: &[u8] = b"\
    \x80\x04\x95\x04\x02\x00\x00\x00\x00\x00\x00}\x94(\x8c\x04task\x94\x8c\ttasks.add\x94\
    \x8c\x02id\x94\x8c$50fbde83-f755-40e9-a1de-76192c8eca74\x94\x8c\x04args\x94(\x8c\x08date\
    time\x94\x8c\x08datetime\x94\x93\x94C\n\x07\xea\x01\x02\x00\x00\x00\x00\x00\x00\x94\x85\
    \x94R\x94\x8c\x07decimal\x94\x8c\x07Decimal\x94\x93\x94\x8c\x031.5\x94\x85\x94R\x94\x8f\
    \x94(K\x01K\x02\x90C\x05bytes\x94\x8a\t\x00\x00\x00\x00\x00\x00\x00\x00@G@\x04\x00\x00\
    \x00\x00\x00\x00\x88J\xfb\xff\xff\xffJp\x11\x01\x00t\x94\x8c\x06kwargs\x94}\x94(h\x03\
    \x8c\x04uuid\x94\x8c\x04UUID\x94\x93\x94)\x81\x94}\x94\x8c\x03int\x94K\x05sbh\x01\x8c\
    \x0bcollections\x94\x8c\x0bOrderedDict\x94\x93\x94)R\x94\x8c\x01a\x94K\x01s\x8c\x04deep\
    \x94}\x94(h\x01\x8c\x02no\x94\x8c\x07retries\x94K\th\x03h$u\x8c\x04same\x94h#u\x8c\x05gr\
    oup\x94\x8c$0e0f1e6a-1111-4222-8333-444455556666\x94\x8c\x0bgroup_index\x94Nh%K\x01\x8c\
    \x03eta\x94\x8c 2026-11-22T08:53:23.736583+00:00\x94\x8c\x07expires\x94N\x8c\x03utc\x94\
    \x88\x8c\tcallbacks\x94N\x8c\x08errbacks\x94N\x8c\ttimelimit\x94NN\x86\x94\x8c\x07taskse\
    t\x94h(\x8c\x05chord\x94Nu.";

/// `json`, compressed with `gzip`.
pub(super) const JSON_ZLIB: &[u8] = b"\
    x\x9c\x95PAn\xc3 \x10\xfc\x8a\xc5\xb5!Z\xc0\xd8\x8e\xdf\xd1[[U\x04\xd6\t2\x89#\x0cr\xa4(\
    \x7f\xef\xe2\xbaR\xd5[\xe7\x00\x9a\xd9\x9dA\xc3\x83%3\x8f\xac\xaf\xd6{\xde\x1b\xe7\xd8\
    \xaeb\xde\x15I\xc3pt\xd8)>\xb4Z\xf3\x1a\xf0\xc0\x8dp\xc8\xdbF\x1c\xa4\xed\xd0\x9a\xb6.\
    \xdb&\x9ef\xda\x7f\x93\xbbJ}\x10\x1f\x97My\xb0\xe5<\x95\xa4\xe5=\x03\x0c\x96=iz\x8aS\xbe\
    \x15\x11\x10\x06\x81\x8d\xe1\x82\xc0k)%\xef\x94R\xbc&hBC`?\x86O\x7fux'\xdb5\x87@b\xc4\
    \x14=\x96G\x041L\xa6$J\x90\r\xa5q)_\xa1\xeb\xb5\xea\xa5\xda\xb7\xaa\xd1\x9dz\x01\xe8\x01\
    J\x1a\xdeo>\xae\xc6-)'K$\xc5\x8cD\xac\t\xe1h\xec\xf8k\x8e1\xfeQ\x92\xbf`\xf0\x17\x9fJ\
    \xe9o\xad\x9c\xa5\xfa\xfa\x8b\x98\xfeS\xcf\x9e\xa7\xe8\xb6\xf0\xe7\x17\x13fo\x1c";
