// Where everything is in the picture of the flow: numbers only.
//
// Where there is room, producers, queues and workers are three columns, and edges run from one
// to the next. Else they are one column, and edges run in the gutters beside it.

const HEIGHT = { producer: 82, queue: 126, worker: 82 };
const GAP = 14;
const HEAD = 34;
const WIDE = 700;
const GUTTER = 38;
const EDGE_MIN = 1.5;
const EDGE_MAX = 14;

/**
 * `columns` are lists of `{ id, kind }`, `edges` have `from` and `to` (ids) and a `rate`.
 * Gives the place of each node and title, the path and width of each edge, and the height.
 */
export function layout(width, columns, edges) {
  const wide = width >= WIDE;
  const places = wide ? threeColumns(width, columns) : oneColumn(width, columns);
  const fastest = Math.max(...edges.map((edge) => edge.rate), 0);
  const widths = edges.map(({ rate }) =>
    fastest > 0 ? EDGE_MIN + (EDGE_MAX - EDGE_MIN) * Math.sqrt(rate / fastest) : EDGE_MIN,
  );
  const ports = new Ports(edges, widths, places.nodes);
  const drawn = edges.map((edge, index) => {
    const from = places.nodes.get(edge.from);
    const to = places.nodes.get(edge.to);
    const y = [ports.out(index, from), ports.into(index, to)];
    return { edge, width: widths[index], path: wide ? across(from, to, y) : beside(edge, from, to, y) };
  });
  return { ...places, wide, edges: drawn };
}

function threeColumns(width, columns) {
  const wide = Math.min(290, (width - 2 * 84) / 3);
  const step = (width - wide) / 2;
  const heights = columns.map(heightOf);
  const height = Math.max(...heights);
  const nodes = new Map();
  const titles = columns.map((column, index) => {
    const x = index * step;
    let y = HEAD + (height - heights[index]) / 2;
    for (const { id, kind } of column) {
      nodes.set(id, { x, y, width: wide, height: HEIGHT[kind] });
      y += HEIGHT[kind] + GAP;
    }
    return { x, y: 0 };
  });
  return { nodes, titles, height: HEAD + height };
}

function oneColumn(width, columns) {
  const nodes = new Map();
  let y = 0;
  const titles = columns.map((column) => {
    const title = { x: GUTTER, y };
    y += HEAD;
    for (const { id, kind } of column) {
      nodes.set(id, { x: GUTTER, y, width: width - 2 * GUTTER, height: HEIGHT[kind] });
      y += HEIGHT[kind] + GAP;
    }
    return title;
  });
  return { nodes, titles, height: y };
}

function heightOf(column) {
  return column.reduce((sum, { kind }) => sum + HEIGHT[kind] + GAP, -GAP);
}

/** Where edges meet the side of a node: beside each other, in the order of their other ends. */
class Ports {
  #out = new Map();
  #into = new Map();

  constructor(edges, widths, nodes) {
    this.#stack(edges, widths, nodes, "from", "to", this.#out);
    this.#stack(edges, widths, nodes, "to", "from", this.#into);
  }

  #stack(edges, widths, nodes, side, other, offsets) {
    const byNode = Map.groupBy(edges.keys(), (index) => edges[index][side]);
    for (const indexes of byNode.values()) {
      indexes.sort((one, two) => nodes.get(edges[one][other]).y - nodes.get(edges[two][other]).y);
      const whole = indexes.reduce((sum, index) => sum + widths[index] + 2, -2);
      let y = -whole / 2;
      for (const index of indexes) {
        offsets.set(index, y + widths[index] / 2);
        y += widths[index] + 2;
      }
    }
  }

  out = (index, node) => node.y + node.height / 2 + this.#out.get(index);
  into = (index, node) => node.y + node.height / 2 + this.#into.get(index);
}

function across(from, to, [y1, y2]) {
  const [x1, x2] = [from.x + from.width, to.x];
  const middle = (x1 + x2) / 2;
  return `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`;
}

/** What is sent runs in the left gutter, what is delivered in the right one. */
function beside({ sent }, from, to, [y1, y2]) {
  const x = sent ? from.x : from.x + from.width;
  const far = sent ? x - GUTTER * 1.2 : x + GUTTER * 1.2;
  return `M${x} ${y1}C${far} ${y1} ${far} ${y2} ${sent ? to.x : to.x + to.width} ${y2}`;
}
