"""The one script of a page: it sorts tables and shows attention weights. It reads what stands in the page, never a word
as HTML, and asks for nothing from outside.
"""

SCRIPT = '''
'use strict';

// Tables: a click on a heading sorts by its column, a second one the other way. Numbers, then words, then nothing.
function key(row, column) {
  const cell = row.cells[column], text = cell.textContent.trim(), by = cell.dataset.sort;
  if (by !== undefined && by !== '' && !isNaN(by)) return [0, Number(by)];
  if (by === undefined && (text === '' || text === '–')) return [2, 0];
  if (by === undefined && cell.querySelector('.missing')) return [2, 0];
  return [1, by ?? text];
}
function sort(table, column, falling) {
  const turn = falling ? -1 : 1, body = table.tBodies[0];
  const rows = [...body.rows].map(row => [key(row, column), row]);
  rows.sort(([[a, x]], [[b, y]]) => a - b || turn * (a === 1 ? x.localeCompare(y) : x - y));
  body.append(...rows.map(([, row]) => row));
  for (const head of table.tHead.rows[0].cells)
    head.ariaSort = head.cellIndex === column ? (falling ? 'descending' : 'ascending') : 'none';
}
for (const table of document.querySelectorAll('table.data')) {
  for (const head of table.tHead.rows[0].cells) {
    const button = document.createElement('button');
    button.type = 'button';
    button.append(...head.firstElementChild.childNodes);
    head.firstElementChild.replaceWith(button);
    head.ariaSort ??= 'none';
    button.addEventListener('click', () => sort(table, head.cellIndex, head.ariaSort === 'ascending'));
  }
}

// Attention weights: one map, of what the four lists say.
const END = '¶';
async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  return JSON.parse(await new Response(stream).text());
}
function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}
function line(symbols, letters) {
  const made = element('bdi', symbols.join(letters ? '' : ' '));
  return made.textContent.trim() ? made : element('i', 'nothing');
}
const short = symbols => symbols.every(symbol => [...symbol].length === 1);
const axis = (symbols, length) =>
  [...symbols.map(symbol => symbol.trim() || '␣'), ...Array(length - symbols.length).fill(END)];

function caption(example) {
  const made = document.createDocumentFragment(), letters = short([...example.answer, ...example.output]);
  made.append(element('span', example.rule, 'rule'),
              element('span', example.right ? '✓ right' : '✗ wrong', example.right ? 'right' : 'wrong'));
  const source = element('b');
  source.append(line(example.source, short(example.source)));
  const list = element('dl');
  for (const [title, symbols] of [['wrote', example.output], ...(example.right ? [] : [['answer', example.answer]])]) {
    const row = element('div'), value = element('dd');
    value.append(line(symbols, letters));
    row.append(element('dt', title), value);
    list.append(row);
  }
  made.append(source, list);
  return made;
}
function choose(weights, head) {  // one head, or their mean
  if (head >= 0) return weights[head];
  const mean = (t, s) => weights.reduce((sum, one) => sum + one[t][s], 0) / weights.length;
  return weights[0].map((row, t) => row.map((_, s) => mean(t, s)));
}
function draw(table, example, head) {
  table.replaceChildren();
  table.here = null;
  const weights = example.weights && choose(example.weights, head);
  if (!weights || !weights.length) {
    const text = weights ? 'no weights: nothing was written' : 'reads no positions';
    table.createTBody().insertRow().append(element('td', text, 'nothing'));
    return;
  }
  const columns = axis(example.source, weights[0].length), rows = axis(example.output, weights.length);
  table.classList.toggle('small', columns.length > 14);
  const top = table.createTHead().insertRow();
  top.append(element('td'));
  for (const symbol of columns) {
    const name = element('th', undefined, symbol.length > 2 ? 'tall' : '');
    name.scope = 'col';
    name.append(element('bdi', symbol));
    top.append(name);
  }
  const body = table.createTBody();
  weights.forEach((row, t) => {
    const drawn = body.insertRow(), name = element('th');
    name.scope = 'row';
    name.append(element('bdi', rows[t]));
    drawn.append(name);
    for (const weight of row) {
      const cell = element('td', undefined, weight < 0 ? 'minus' : '');
      cell.title = (weight / 1000).toFixed(3);
      if (weight) cell.style.setProperty('--w', Math.min(1, Math.abs(weight / 1000)));
      drawn.append(cell);
    }
  });
}
function read(table, row, column) {
  const cell = table.tBodies[0].rows[row]?.cells[column];
  if (!table.tHead || !cell || cell.tagName !== 'TD') return false;
  table.querySelector('.here')?.classList.remove('here');
  cell.classList.add('here');
  const source = table.tHead.rows[0].cells[column].textContent, written = cell.parentNode.cells[0].textContent;
  table.closest('figure').querySelector('output').textContent = `${written} reads ${source}: ${cell.title}`;
  table.here = [row, column];
  return true;
}
function fill(select, names, wanted) {
  const before = Number(wanted ?? select.value);  // stays where it is, if it can
  select.replaceChildren(...names.map((name, n) => new Option(name, n)));
  select.value = before < names.length ? before : 0;
}
async function view(viewer, from) {
  const {arm, run, example, head} = viewer.lists, arms = viewer.arms;
  if (from === 'arm') fill(run, arms[arm.value].runs.map(one => `${one.seed} (${one.score})`));
  const chosen = arms[arm.value].runs[run.value];
  viewer.asked = chosen;
  const examples = chosen.examples ??= await unpack(chosen.data);
  if (viewer.asked !== chosen) return;  // another one was chosen in the meantime
  if (from !== 'example' && from !== 'head')
    fill(example, examples.map(one => `${one.rule}: ${one.source.join(short(one.source) ? '' : ' ')}`),
         example.length ? undefined : examples.length >> 1);  // opens with one of middle length
  const shown = examples[example.value], heads = shown.weights ? shown.weights.length : 0;
  if (from !== 'head') {
    const names = chosen.heads.length === heads ? chosen.heads : Array.from({length: heads}, (_, n) => `head ${n + 1}`);
    fill(head, heads > 1 ? ['mean of all heads', ...names] : names.length ? ['the only head'] : ['none']);
  }
  viewer.className = `viewer ${arms[arm.value].look}`;
  viewer.querySelector('figcaption').replaceChildren(caption(shown));
  viewer.querySelector('output').textContent = '';
  draw(viewer.querySelector('.heat'), shown, head.value - (heads > 1 ? 1 : 0));
}
for (const viewer of document.querySelectorAll('.viewer')) {
  viewer.arms = JSON.parse(document.getElementById(viewer.dataset.weights).textContent);
  viewer.lists = Object.fromEntries([...viewer.querySelectorAll('select')].map(list => [list.dataset.choose, list]));
  fill(viewer.lists.arm, viewer.arms.map(arm => arm.name), viewer.dataset.first);
  for (const [name, list] of Object.entries(viewer.lists)) list.addEventListener('change', () => view(viewer, name));
  view(viewer, 'arm');
  const table = viewer.querySelector('.heat');
  table.addEventListener('pointerover', event => {
    const cell = event.target.closest('tbody td');
    if (cell) read(table, cell.parentNode.sectionRowIndex, cell.cellIndex);
  });
  table.addEventListener('focus', () => read(table, ...(table.here || [0, 1])));
  table.addEventListener('keydown', event => {
    const move = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
    const [row, column] = table.here || [0, 1];
    if (move && read(table, row + move[0], column + move[1])) event.preventDefault();
  });
}
'''
