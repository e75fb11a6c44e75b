"""Marian of transformers: a random model and its tokenizer, saved as others save them, and what they say."""

import io
import json
import pathlib

import sentencepiece
import torch
from transformers import MarianConfig, MarianMTModel, MarianTokenizer

from tests.peers.exchange import serve

CORPORA = {'source': ['a dog sees the cat', 'the cat sees a dog and a bird', 'birds and dogs see cats',
                      'the bird sees the dog', 'a cat and a dog'],
           'target': ['ein Hund sieht die Katze', 'die Katze sieht einen Hund und einen Vogel',
                      'Vögel und Hunde sehen Katzen', 'der Vogel sieht den Hund', 'eine Katze und ein Hund']}


def pieces_of(folder, side):
    """Trains a SentencePiece model and says its pieces."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(CORPORA[side] * 4), model_writer=model,
                                             vocab_size=36, hard_vocab_limit=False, minloglevel=2)
    (folder / f'{side}.spm').write_bytes(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor.from_proto(model.getvalue())
    return [processor.id_to_piece(number) for number in range(3, len(processor))]


def save(folder, together):
    """A model and its tokenizer; one table for both sides, or not."""
    folder.mkdir()
    own = {side: pieces_of(folder, side) for side in CORPORA}
    sides = {'source': dict.fromkeys(own['source'] + own['target'])} if together else own
    files = dict(zip(('source', 'target'), ('vocab.json', 'target_vocab.json')))
    tables = {}
    for side, pieces in sides.items():
        order = ['</s>', '<unk>', '>>deu<<', *pieces]
        order += [f'(never {number})' for number in range(64 - len(order))]  # the pad has one id on both sides
        tables[side] = {piece: number for number, piece in enumerate([*order, '<pad>'])}
        (folder / files[side]).write_text(json.dumps(tables[side], ensure_ascii=False))
    size = len(tables['source'])
    config = MarianConfig(
        vocab_size=size, decoder_vocab_size=len(tables.get('target', tables['source'])), d_model=12, encoder_layers=2,
        decoder_layers=3, encoder_ffn_dim=20, decoder_ffn_dim=16, encoder_attention_heads=3, decoder_attention_heads=2,
        max_position_embeddings=64, activation_function='swish', scale_embedding=together, pad_token_id=size - 1,
        decoder_start_token_id=size - 1, eos_token_id=0, forced_eos_token_id=None,
        share_encoder_decoder_embeddings=together)
    torch.manual_seed(0)
    model = MarianMTModel(config).eval()
    spreads = {'bias': 0.1, 'encoder_attn': 3.0, 'attn.': 0.3}  # or all sentences become one, of one symbol
    for name, tensor in (*model.named_parameters(), ('final_logits_bias', model.final_logits_bias)):
        if 'embed_positions' not in name:
            spread = next((spread for part, spread in spreads.items() if part in name), 1.0)
            torch.nn.init.normal_(tensor, 1.0 if 'layer_norm.weight' in name else 0.0, spread)
    model.save_pretrained(folder)
    more = {} if together else {'target_vocab_file': str(folder / files['target']), 'separate_vocabs': True}
    return model, MarianTokenizer(str(folder / 'source.spm'), str(folder / 'target.spm'), str(folder / 'vocab.json'),
                                  **more)


def marian(given, folder, together, lines, targets):
    model, tokenizer = save(pathlib.Path(folder), together)
    asked = tokenizer(lines, return_tensors='pt', padding=True)
    wanted = tokenizer(text_target=targets, return_tensors='pt', padding=True).input_ids
    begin = torch.full((len(lines), 1), model.config.decoder_start_token_id)
    logits = model(**asked, decoder_input_ids=torch.cat([begin, wanted[:, :-1]], dim=1)).logits
    written = model.generate(**asked, num_beams=1, do_sample=False, max_new_tokens=12,
                             bad_words_ids=[[model.config.pad_token_id]])
    texts = tokenizer.batch_decode(written, skip_special_tokens=False, use_source_tokenizer=False)
    (pathlib.Path(folder) / 'texts.json').write_text(json.dumps(texts))
    return {'source': asked.input_ids, 'targets': wanted, 'logits': logits, 'written': written}


if __name__ == '__main__':
    serve({'marian': marian})
