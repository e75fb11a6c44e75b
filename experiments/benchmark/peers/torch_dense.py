"""Training of plain PyTorch on sentences of one length: no padding, no dropout, label smoothing 0.1, AdamW.

    python torch_dense.py transformer|lstm SENTENCES LENGTH VOCABULARY

It answers {"steps": n} with the seconds that n updates take. The Transformer is torch.nn.Transformer, 3 + 3 layers of
width 256, 1,024 inside, 4 heads, pre-norm, one table for embeddings and softmax; the other is a bidirectional LSTM of
2 x 256 and a decoder of 256 with additive attention, input feeding and a softmax of its own.
"""

import json
import sys
import time
import warnings

import torch
from torch import nn
from torch.nn import functional

WIDTH, INSIDE, HEADS, LAYERS, WARM = 256, 1024, 4, 3, 2


class Transformer(nn.Module):
    """Embeddings are scaled; there are no positions, which cost next to nothing."""

    def __init__(self, vocabulary):
        super().__init__()
        self.table = nn.Embedding(vocabulary, WIDTH)
        self.layers = nn.Transformer(WIDTH, HEADS, LAYERS, LAYERS, INSIDE, dropout=0.0, norm_first=True,
                                     batch_first=True)

    def forward(self, source, inputs):
        """Scores of symbols, [B, T, V]."""
        mask = nn.Transformer.generate_square_subsequent_mask(inputs.shape[1])
        source, inputs = (self.table(tokens) * WIDTH ** 0.5 for tokens in (source, inputs))
        return self.layers(source, inputs, tgt_mask=mask, tgt_is_causal=True) @ self.table.weight.T


class Recurrent(nn.Module):
    """The cell's new state asks; what it has read goes into the hidden vector, which the next step is given."""

    def __init__(self, vocabulary):
        super().__init__()
        self.source_table, self.target_table = (nn.Embedding(vocabulary, WIDTH) for _ in range(2))
        self.encoder = nn.LSTM(WIDTH, WIDTH, batch_first=True, bidirectional=True)
        self.start = nn.Linear(2 * WIDTH, WIDTH)
        self.cell = nn.LSTMCell(2 * WIDTH, WIDTH)
        self.keys, self.query = nn.Linear(2 * WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.energy = nn.Linear(WIDTH, 1)
        self.hidden = nn.Linear(3 * WIDTH, WIDTH)
        self.softmax = nn.Linear(WIDTH, vocabulary)

    def forward(self, source, inputs):
        """Scores of symbols, [B, T, V]."""
        annotations = self.encoder(self.source_table(source))[0]
        keys = self.keys(annotations)
        state = torch.tanh(self.start(annotations[:, -1]))
        memory = hidden = torch.zeros_like(state)
        found = []
        for vector in self.target_table(inputs).unbind(1):
            state, memory = self.cell(torch.cat((vector, hidden), 1), (state, memory))
            energies = self.energy(torch.tanh(keys + self.query(state)[:, None]))
            context = (torch.softmax(energies, 1) * annotations).sum(1)
            hidden = torch.tanh(self.hidden(torch.cat((state, context), 1)))
            found.append(hidden)
        return self.softmax(torch.stack(found, 1))


def main(kind, sentences, length, vocabulary):
    """Warms up, then answers."""
    warnings.filterwarnings('ignore')
    torch.manual_seed(0)
    model = {'transformer': Transformer, 'lstm': Recurrent}[kind](vocabulary)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3)
    source, inputs, targets = torch.randint(4, vocabulary, (3, sentences, length))

    def updates(steps):
        begin = time.perf_counter()
        for _ in range(steps):
            optimiser.zero_grad()
            scores = model(source, inputs)
            loss = functional.cross_entropy(scores.flatten(0, 1), targets.flatten(), label_smoothing=0.1)
            loss.backward()
            optimiser.step()
        return time.perf_counter() - begin
    updates(WARM)
    print(json.dumps({'name': f'PyTorch {torch.__version__.split("+")[0]}'}), flush=True)
    for line in sys.stdin:
        print(json.dumps({'seconds': updates(json.loads(line)['steps'])}), flush=True)


if __name__ == '__main__':
    main(sys.argv[1], *map(int, sys.argv[2:]))
