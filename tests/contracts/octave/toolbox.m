% Reference numbers for tests/contracts/test_toolbox_*.py, made with GNU Octave's own convn:
%
%     octave-cli --no-gui tests/contracts/octave/toolbox.m
%
% writes toolbox.json beside this file. It follows the formulas of the MATLAB toolbox's CNN, one
% map and one cell of the kernel's position at a time; it shares no code with convgrad.
% Inputs and parameters are multiples of 1/1024, so they are the same numbers everywhere.
% Keys name a field as net.layers[l].k[i][j] does, counting from 0; data is column-major.

1;

function v = numbers (size_, seed)
  n = prod (size_);
  v = reshape ((mod ((1:n) * 7919 + seed * 104729 + 31, 1009) - 504) / 1024, size_);
end

function p = sigmoid (z)
  p = 1 ./ (1 + exp (-z));
end

function e = blocks (m, s)
  % Each cell of a map becomes an s×s block; samples stay.
  e = zeros (s * size (m, 1), s * size (m, 2), size (m, 3));
  for n = 1:size (m, 3)
    e(:, :, n) = kron (m(:, :, n), ones (s));
  end
end

function t = turned (k)
  t = k(end:-1:1, end:-1:1);
end

function t = reversed (m)
  t = m(end:-1:1, end:-1:1, end:-1:1);
end

function net = build (layers, height, width, outputs)
  net.layers = layers;
  maps = 1;
  mapsize = [height, width];
  for l = 1:numel (layers)
    if layers{l}.type == 'c'
      K = layers{l}.kernelsize;
      mapsize = mapsize - K + 1;
      for j = 1:layers{l}.outputmaps
        for i = 1:maps
          net.layers{l}.k{i}{j} = 2 * numbers ([K, K], 100 * l + 10 * i + j);
        end
        net.layers{l}.b{j} = numbers ([1, 1], 50 * l + j);
      end
      maps = layers{l}.outputmaps;
    elseif layers{l}.type == 's'
      mapsize = mapsize / layers{l}.scale;
    end
  end
  net.ffW = 2 * numbers ([outputs, maps * prod(mapsize)], 7);
  net.ffb = numbers ([outputs, 1], 8);
end

function net = forwards (net, x)
  net.layers{1}.a{1} = x;
  for l = 2:numel (net.layers)
    below = net.layers{l - 1}.a;
    if net.layers{l}.type == 'c'
      for j = 1:net.layers{l}.outputmaps
        z = net.layers{l}.b{j};
        for i = 1:numel (below)
          z = z + convn (below{i}, net.layers{l}.k{i}{j}, 'valid');
        end
        net.layers{l}.a{j} = sigmoid (z);
      end
    else
      s = net.layers{l}.scale;
      for j = 1:numel (below)
        z = convn (below{j}, ones (s) / s ^ 2, 'valid');
        net.layers{l}.a{j} = z(1:s:end, 1:s:end, :);
      end
    end
  end
  net.fv = [];
  for j = 1:numel (net.layers{end}.a)
    a = net.layers{end}.a{j};
    net.fv = [net.fv; reshape(a, size (a, 1) * size (a, 2), size (a, 3))];
  end
  net.o = sigmoid (net.ffW * net.fv + net.ffb);
end

function net = backwards (net, y)
  n = numel (net.layers);
  N = size (y, 2);
  net.e = net.o - y;
  net.L = sum (net.e(:) .^ 2) / (2 * N);
  net.od = net.e .* net.o .* (1 - net.o);
  net.fvd = net.ffW' * net.od;
  if net.layers{n}.type == 'c'
    net.fvd = net.fvd .* net.fv .* (1 - net.fv);
  end
  a = net.layers{n}.a{1};
  cells = size (a, 1) * size (a, 2);
  for j = 1:numel (net.layers{n}.a)
    part = net.fvd((j - 1) * cells + 1:j * cells, :);
    net.layers{n}.d{j} = reshape (part, size (a, 1), size (a, 2), N);
  end
  for l = n - 1:-1:2
    above = net.layers{l + 1};
    for i = 1:numel (net.layers{l}.a)
      a = net.layers{l}.a{i};
      if above.type == 's'
        d = blocks (above.d{i}, above.scale) / above.scale ^ 2;
      else
        d = zeros (size (a));
        for j = 1:numel (above.d)
          d = d + convn (above.d{j}, turned (above.k{i}{j}), 'full');
        end
      end
      if net.layers{l}.type == 'c'
        d = d .* a .* (1 - a);
      end
      net.layers{l}.d{i} = d;
    end
  end
  for l = 2:n
    if net.layers{l}.type == 'c'
      for j = 1:numel (net.layers{l}.d)
        d = net.layers{l}.d{j};
        for i = 1:numel (net.layers{l - 1}.a)
          net.layers{l}.dk{i}{j} = convn (reversed (net.layers{l - 1}.a{i}), d, 'valid') / N;
        end
        net.layers{l}.db{j} = sum (d(:)) / N;
      end
    end
  end
  net.dffW = net.od * net.fv' / N;
  net.dffb = mean (net.od, 2);
end

function net = step (net, alpha)
  for l = 2:numel (net.layers)
    if net.layers{l}.type == 'c'
      for j = 1:numel (net.layers{l}.b)
        for i = 1:numel (net.layers{l}.k)
          net.layers{l}.k{i}{j} = net.layers{l}.k{i}{j} - alpha * net.layers{l}.dk{i}{j};
        end
        net.layers{l}.b{j} = net.layers{l}.b{j} - alpha * net.layers{l}.db{j};
      end
    end
  end
  net.ffW = net.ffW - alpha * net.dffW;
  net.ffb = net.ffb - alpha * net.dffb;
end

function put (file, key, value)
  sizes = sprintf ('%d,', size (value));
  data = sprintf ('%.17g,', value);
  fprintf (file, '"%s":{"size":[%s],"data":[%s]},\n', key, sizes(1:end - 1), data(1:end - 1));
end

function put_layers (file, name, net, fields)
  for l = 1:numel (net.layers)
    for f = 1:numel (fields)
      if ! isfield (net.layers{l}, fields{f})
        continue;
      end
      cells = net.layers{l}.(fields{f});
      for i = 1:numel (cells)
        key = sprintf ('%s/layers/%d/%s/%d', name, l - 1, fields{f}, i - 1);
        if iscell (cells{i})
          for j = 1:numel (cells{i})
            put (file, sprintf ('%s/%d', key, j - 1), cells{i}{j});
          end
        else
          put (file, key, cells{i});
        end
      end
    end
  end
end

function put_fields (file, name, net, fields)
  for f = 1:numel (fields)
    put (file, [name '/' fields{f}], net.(fields{f}));
  end
end

function y = one_hot (rows, samples)
  y = zeros (rows, samples);
  for n = 1:samples
    y(mod (n * n, rows) + 1, n) = 1;
  end
end

function run_net (file, name, layers, height, width, samples)
  x = 0.5 + numbers ([height, width, samples], 3);
  y = one_hot (3, samples);
  net = build (layers, height, width, 3);
  put (file, [name '/x'], x);
  put (file, [name '/y'], y);
  put_layers (file, name, net, {'k', 'b'});
  put_fields (file, name, net, {'ffW', 'ffb'});
  net = backwards (forwards (net, x), y);
  put_layers (file, name, net, {'a', 'd', 'dk', 'db'});
  put_fields (file, name, net, {'fv', 'o', 'e', 'L', 'od', 'fvd', 'dffW', 'dffb'});
  net = step (net, 0.5);
  put_layers (file, [name '/after'], net, {'k', 'b'});
  put_fields (file, [name '/after'], net, {'ffW', 'ffb'});
end

function run_training (file, layers)
  x = 0.5 + numbers ([8, 8, 12], 4);
  y = one_hot (3, 12);
  net = build (layers, 8, 8, 3);
  orders = [5, 12, 1, 8, 3, 10, 2, 7, 11, 4, 9, 6; 2, 9, 6, 1, 12, 5, 8, 3, 4, 11, 10, 7];
  rL = [];
  for epoch = 1:2
    for start = 1:4:12
      kk = orders(epoch, start:start + 3);
      net = step (backwards (forwards (net, x(:, :, kk)), y(:, kk)), 1);
      if isempty (rL)
        rL(1) = net.L;
      end
      rL(end + 1) = 0.99 * rL(end) + 0.01 * net.L;
    end
  end
  put (file, 'training/x', x);
  put (file, 'training/y', y);
  put (file, 'training/orders', orders - 1);
  put (file, 'training/rL', rL);
  put_layers (file, 'training', net, {'k', 'b'});
  put_fields (file, 'training', net, {'ffW', 'ffb'});
  [~, found] = max (forwards (net, x).o);
  [~, wanted] = max (y);
  put (file, 'training/bad', find (found != wanted) - 1);
  put (file, 'training/er', mean (found != wanted));
end

function run_convn (file, number, size_a, size_b)
  a = 1024 * numbers (size_a, number);
  b = 1024 * numbers (size_b, number + 1);
  key = sprintf ('convn/%d', number);
  put (file, [key '/a'], a);
  put (file, [key '/b'], b);
  for shape = {'full', 'same', 'valid'}
    put (file, [key '/' shape{1}], convn (a, b, shape{1}));
  end
end

input = struct ('type', 'i');
conv = @(maps, K) struct ('type', 'c', 'outputmaps', maps, 'kernelsize', K);
pool = @(s) struct ('type', 's', 'scale', s);
standard = {input, conv(2, 3), pool(2), conv(3, 2), pool(2)};

file = fopen (fullfile (fileparts (mfilename ('fullpath')), 'toolbox.json'), 'w');
fprintf (file, '{\n');
run_net (file, 'standard', standard, 8, 8, 3);
run_net (file, 'not square', {input, conv(2, 2), pool(2), conv(2, 2)}, 9, 7, 2);
run_net (file, 'pooling first', {input, pool(2), conv(2, 2)}, 8, 6, 2);
run_net (file, 'pooling twice', {input, pool(2), pool(2), conv(2, 1), pool(1)}, 4, 8, 2);
run_net (file, 'scale 1', {input, conv(2, 2), pool(1)}, 5, 4, 2);
run_net (file, 'one sample', {input, conv(2, 3), pool(2), conv(2, 2)}, 6, 8, 1);
run_net (file, 'convolution twice', {input, conv(2, 3), conv(3, 2), pool(2)}, 7, 5, 2);
run_net (file, 'no layer but the input', {input}, 3, 2, 2);
run_training (file, standard);

sizes = {[1, 5], [1, 2]; [6, 1], [3, 1]; [1, 2], [1, 4]; [4, 5], [2, 3]; [5, 4], [4, 2]; ...
         [2, 2], [3, 3]; [4, 3], [1, 1]; [3, 4], [4, 2]; [4, 3, 3], [2, 2, 2]; ...
         [4, 4, 3], [3, 2]; [3, 3], [2, 2, 2]; [3, 4, 2], [2, 3, 2]; [2, 3, 3], [1, 2, 1]};
for number = 1:size (sizes, 1)
  run_convn (file, number, sizes{number, :});
end
put (file, 'blocks/m', numbers ([2, 3, 2], 1));
put (file, 'blocks/e', blocks (numbers ([2, 3, 2], 1), 3));
fprintf (file, '"octave":"%s"}\n', version ());
fclose (file);
